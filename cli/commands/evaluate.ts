import { resolve } from 'node:path';
import type { Command } from 'commander';
import { formatCount } from '../../common/text.ts';
import type { RowSummary } from '../../lora/data/row-report.ts';
import type { Evaluation } from '../../lora/evaluate/evaluate.ts';
import { badRowSummary, printedReport } from '../bad-rows.ts';
import type { Context } from '../context.ts';
import { addDataOptions, DATA_FILES, type DataFlags, dataSettings } from '../data-options.ts';
import { addModelOptions, type ModelFlags, openModelBundle } from '../model-options.ts';
import { collect, jsonOption } from '../options.ts';
import { printJson, printLines } from '../print.ts';

interface EvaluateOptions extends ModelFlags, DataFlags {
  data: string[];
  json?: boolean;
}

export function registerEvaluate(program: Command, context: Context): void {
  const command = program
    .command('evaluate')
    .description('measure the loss of a model on data, with or without an adapter');
  addModelOptions(command).requiredOption('--data <path...>', DATA_FILES, collect);
  addDataOptions(command, { packing: false })
    .addOption(jsonOption())
    .action((options: EvaluateOptions) => evaluate(context, options));
}

async function evaluate(context: Context, options: EvaluateOptions): Promise<void> {
  const [{ evaluateExamples }, { readExamples }, { readingOf, rendererFor }] = await Promise.all([
    import('../../lora/evaluate/evaluate.ts'),
    import('../../lora/data/read-examples.ts'),
    import('../../lora/data/settings.ts'),
  ]);
  const { signal, cwd, clock } = context;
  const bundle = await openModelBundle(context, options);
  const paths = options.data.map((path) => resolve(cwd, path));
  const settings = dataSettings(options, cwd);
  const report = printedReport(context, settings.badRowShare);
  const renderer = await rendererFor(settings, { dir: bundle.model.dir, now: clock.now() }, bundle);
  try {
    const examples = readExamples(paths, { ...readingOf(settings), signal, report });
    const result = await evaluateExamples({ examples, renderer, report, signal }, bundle);
    const read = report.summary();
    if (options.json) printJson(context, { schemaVersion: 1, ...result, read });
    else printLines(context, resultLines(result, read));
  } finally {
    await renderer.close();
  }
}

function resultLines(
  { loss, perplexity, bitsPerByte, tokens, rows }: Evaluation,
  read: RowSummary,
): string[] {
  const skipped = badRowSummary(read);
  return [
    `loss          ${loss.toFixed(4)} nats per token`,
    `perplexity    ${perplexity.toFixed(2)}`,
    ...(bitsPerByte === null ? [] : [`bits per byte ${bitsPerByte.toFixed(4)}`]),
    `tokens        ${formatCount(tokens)} in ${formatCount(rows)} ${bitsPerByte === null ? 'examples' : 'texts'}`,
    ...(skipped === null ? [] : [`left out      ${skipped}`]),
  ];
}
