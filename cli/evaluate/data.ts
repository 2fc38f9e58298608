import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { countOf, formatChange, formatCount } from '../../common/text.ts';
import type { Evaluation, LossComparison, ModelBundle } from '../../index.ts';
import { probabilityText } from '../../lora/evaluate/compare/compare.ts';
import type { Context } from '../context.ts';
import { badRowSummary, printedRows } from '../data/bad-rows.ts';
import { type DataFlags, dataSettings } from '../options/data.ts';
import { type ModelFlags, openModelBundle } from '../options/model.ts';
import { ProgressLine, printJson, printLines, printNote } from '../print.ts';
import { otherModel } from './other-model.ts';

export interface DataEvaluationFlags extends ModelFlags, DataFlags {
  data: string[];
  against?: string;
  limit?: number;
  json?: boolean;
}

/** Measures the loss of a model on data files, and compares it with the model of --against if there is one. */
export async function evaluateData(context: Context, options: DataEvaluationFlags): Promise<void> {
  const { evaluate: measure } = await import('../../index.ts');
  const { signal, cwd, clock } = context;
  const bundle = await openModelBundle(context, options);
  const against = await otherModel(context, options, bundle);
  await warnOfTemplates(context, options, { bundle, against });
  const progress = new ProgressLine(context);
  const result = await measure(bundle, {
    data: options.data.map((path) => resolve(cwd, path)),
    settings: dataSettings(options, cwd),
    limit: options.limit,
    against,
    onBadRow: printedRows(context, progress),
    now: clock.now(),
    onProgress: ({ tokens }) => progress.update(`${formatCount(tokens)} tokens measured`),
    signal,
  }).finally(() => progress.clear());
  if (options.json) printJson(context, { schemaVersion: 1, ...result });
  else printLines(context, resultLines(result, options.against));
}

/**
 * Warns if the adapters of the two models have different chat templates. Both models are measured on the same tokens,
 * so one model is measured with a template that it was not trained with.
 */
async function warnOfTemplates(
  context: Context,
  { template, adapter, against: other }: DataEvaluationFlags,
  { bundle, against }: { bundle: ModelBundle; against: ModelBundle | undefined },
): Promise<void> {
  const [own, others] = [bundle.adapter?.template, against?.adapter?.template];
  if (template !== undefined || !own || !others) return;
  const [first, second] = await Promise.all([readFile(own, 'utf8'), readFile(others, 'utf8')]);
  if (first === second) return;
  printNote(
    context,
    `conversations are rendered with the chat template of ${adapter}, but ${other} was trained with a different template; --template sets one template for both`,
  );
}

function resultLines(
  { loss, perplexity, bitsPerByte, tokens, rows, read, comparison }: Evaluation,
  against: string | undefined,
): string[] {
  const skipped = read && badRowSummary(read);
  return [
    `loss          ${loss.toFixed(4)} nats per token`,
    ...(comparison === null ? [] : comparisonLines(comparison, against!)),
    `perplexity    ${perplexity.toFixed(2)}`,
    ...(bitsPerByte === null ? [] : [`bits per byte ${bitsPerByte.toFixed(4)}`]),
    `tokens        ${formatCount(tokens)} in ${countOf(rows, bitsPerByte === null ? 'example' : 'text')}`,
    ...(skipped === null ? [] : [`left out      ${skipped}`]),
  ];
}

function comparisonLines(
  { examples, change, low, high, p, verdict, ...of }: LossComparison,
  against: string,
): string[] {
  const margin = low === null || high === null ? '' : ` ± ${((high - low) / 2).toFixed(4)} (95 %)`;
  const meaning =
    examples < 2
      ? 'one example does not show which model is better'
      : verdict === 'noise'
        ? 'these examples do not show which model is better'
        : `the loss is ${change < 0 ? 'lower' : 'higher'}`;
  return [
    `against       ${of.against.toFixed(4)} (${against})`,
    `change        ${formatChange(change)}${margin}, p ${probabilityText(p)}: ${verdict}, ${meaning}`,
  ];
}
