import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { countOf, formatChange, formatCount, table } from '../../common/text.ts';
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
  against?: string[];
  limit?: number;
  json?: boolean;
}

/** Measures the loss of a model on data files, and compares it with the models of --against if there are any. */
export async function evaluateData(context: Context, options: DataEvaluationFlags): Promise<void> {
  const { evaluate: measure } = await import('../../index.ts');
  const { signal, cwd, clock } = context;
  const bundle = await openModelBundle(context, options);
  const against: ModelBundle[] = [];
  for (const name of options.against ?? []) {
    against.push(await otherModel(context, options, { against: name, bundle }));
  }
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
 * Warns if another adapter has a different chat template than the adapter of the model. All models are measured on the
 * same tokens, so the other adapter is measured with a template that it was not trained with.
 */
async function warnOfTemplates(
  context: Context,
  { template, adapter, against: names = [] }: DataEvaluationFlags,
  { bundle, against }: { bundle: ModelBundle; against: readonly ModelBundle[] },
): Promise<void> {
  const own = bundle.adapter?.template;
  if (template !== undefined || !own) return;
  const first = await readFile(own, 'utf8');
  for (const [i, { adapter: other }] of against.entries()) {
    if (!other?.template || first === (await readFile(other.template, 'utf8'))) continue;
    printNote(
      context,
      `conversations are rendered with the chat template of ${adapter}, but ${names[i]} was trained with a different template; --template sets one template for all`,
    );
  }
}

function resultLines(
  { loss, perplexity, bitsPerByte, tokens, rows, read, comparisons }: Evaluation,
  against: readonly string[] = [],
): string[] {
  const skipped = read && badRowSummary(read);
  return [
    `loss          ${loss.toFixed(4)} nats per token`,
    ...(comparisons.length === 1 ? comparisonLines(comparisons[0]!, against[0]!) : []),
    `perplexity    ${perplexity.toFixed(2)}`,
    ...(bitsPerByte === null ? [] : [`bits per byte ${bitsPerByte.toFixed(4)}`]),
    `tokens        ${formatCount(tokens)} in ${countOf(rows, bitsPerByte === null ? 'example' : 'text')}`,
    ...(skipped === null ? [] : [`left out      ${skipped}`]),
    ...(comparisons.length > 1 ? ['', ...comparisonTable(comparisons, against)] : []),
  ];
}

/** Returns a table with one row for each other model. `change` is the loss of the model minus the loss of the other. */
function comparisonTable(comparisons: readonly LossComparison[], against: readonly string[]): string[] {
  const rows = comparisons.map(({ p, adjustedP, verdict, ...one }, i) => [
    against[i]!,
    one.against.toFixed(4),
    `${formatChange(one.change)}${marginOf(one)}`,
    probabilityText(p),
    probabilityText(adjustedP),
    verdict,
  ]);
  return table([['against', 'loss', 'change (95 %)', 'p', 'p (Holm)', ''], ...rows]);
}

function marginOf({ low, high }: Pick<LossComparison, 'low' | 'high'>): string {
  return low === null || high === null ? '' : ` ± ${((high - low) / 2).toFixed(4)}`;
}

function comparisonLines({ examples, change, p, verdict, ...of }: LossComparison, against: string): string[] {
  const margin = of.low === null ? '' : `${marginOf(of)} (95 %)`;
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
