import { resolve } from 'node:path';
import { countOf, formatCount } from '../../common/text.ts';
import type { Evaluation } from '../../index.ts';
import type { Context } from '../context.ts';
import { badRowSummary, printedRows } from '../data/bad-rows.ts';
import { type DataFlags, dataSettings } from '../options/data.ts';
import { type ModelFlags, openModelBundle } from '../options/model.ts';
import { printJson, printLines } from '../print.ts';

export interface DataEvaluationFlags extends ModelFlags, DataFlags {
  data: string[];
  json?: boolean;
}

/** Measures the loss of a model on data files. */
export async function evaluateData(context: Context, options: DataEvaluationFlags): Promise<void> {
  const { evaluate: measure } = await import('../../index.ts');
  const { signal, cwd, clock } = context;
  const bundle = await openModelBundle(context, options);
  const result = await measure(bundle, {
    data: options.data.map((path) => resolve(cwd, path)),
    settings: dataSettings(options, cwd),
    onBadRow: printedRows(context),
    now: clock.now(),
    signal,
  });
  if (options.json) printJson(context, { schemaVersion: 1, ...result });
  else printLines(context, resultLines(result));
}

function resultLines({ loss, perplexity, bitsPerByte, tokens, rows, read }: Evaluation): string[] {
  const skipped = read && badRowSummary(read);
  return [
    `loss          ${loss.toFixed(4)} nats per token`,
    `perplexity    ${perplexity.toFixed(2)}`,
    ...(bitsPerByte === null ? [] : [`bits per byte ${bitsPerByte.toFixed(4)}`]),
    `tokens        ${formatCount(tokens)} in ${countOf(rows, bitsPerByte === null ? 'example' : 'text')}`,
    ...(skipped === null ? [] : [`left out      ${skipped}`]),
  ];
}
