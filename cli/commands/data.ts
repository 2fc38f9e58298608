import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { formatBytes } from '../../common/text.ts';
import { some } from '../../lora/data/inspect/plural.ts';
import { trainingSchema } from '../../protocol/manifest.ts';
import { BASE_MODEL, baseFolder } from '../base-model.ts';
import type { Context } from '../context.ts';
import { addDataOptions, DATA_FILES, type DataFlags, dataSettings } from '../data-options.ts';
import { cliError } from '../error-codes.ts';
import { collect, integer, jsonOption } from '../options.ts';
import { ProgressLine, printJson, printLines } from '../print.ts';

interface InspectFlags extends DataFlags {
  model: string;
  data: string[];
  heldOut?: string[];
  sequenceLength: number;
  nodes: number;
  samples: number;
  limit?: number;
  tokens?: boolean;
  html?: string;
  json?: boolean;
}

export function registerData(program: Command, context: Context): void {
  const data = program.command('data').description('look at training data before it is used');
  const inspect = data
    .command('inspect')
    .description(
      'show samples as the model sees them, with what is trained of them, and what may be wrong with the data',
    )
    .requiredOption(
      '--model <model>',
      `base model, whose tokenizer and chat template are used: ${BASE_MODEL}`,
    )
    .requiredOption('--data <path...>', DATA_FILES, collect)
    .option('--held-out <path...>', 'held-out data, to be compared with the training data', collect);
  addDataOptions(inspect, { packing: true })
    .option(
      '--sequence-length <tokens>',
      'tokens per row',
      integer(8, 131072),
      trainingSchema.parse({}).sequenceLength,
    )
    .option('--nodes <n>', 'nodes that would share a job over this data', integer(1, 100_000), 4)
    .option('--samples <n>', 'samples shown, chosen at random', integer(0, 1000), 3)
    .option('--limit <n>', 'look at the first n samples alone', integer(1))
    .option('--tokens', 'show samples a line per token')
    .option('--html <file>', 'also write a report to look at in a browser')
    .addOption(jsonOption())
    .action((flags: InspectFlags) => inspectCommand(context, flags));
}

async function inspectCommand(context: Context, flags: InspectFlags): Promise<void> {
  const { cwd, clock, signal } = context;
  const [
    { loadTokenizer },
    { rendererFor },
    { inspectData },
    { findingsOf },
    { inspectionLines },
    { checkReport, inspectionPage },
  ] = await Promise.all([
    import('../../lora/data/tokenizer.ts'),
    import('../../lora/data/settings.ts'),
    import('../../lora/data/inspect/inspection.ts'),
    import('../../lora/data/inspect/findings.ts'),
    import('../data/terminal.ts'),
    import('../data/html.ts'),
  ]);
  const report = flags.html === undefined ? null : resolve(cwd, flags.html);
  if (report !== null) await checkReport(report);
  const dir = await baseFolder(context, flags.model);
  const settings = dataSettings(flags, cwd);
  const paths = (list: readonly string[]): string[] => list.map((path) => resolve(cwd, path));
  const tokenizer = await loadTokenizer(dir);
  const renderer = await rendererFor(settings, { dir, now: clock.now() }, { tokenizer });
  const progress = new ProgressLine(context);
  try {
    const inspection = await inspectData(
      {
        data: paths(flags.data),
        heldOut: flags.heldOut ? paths(flags.heldOut) : null,
        settings,
        sequenceLength: flags.sequenceLength,
        nodes: flags.nodes,
        samples: flags.samples,
        limit: flags.limit ?? null,
        signal,
        onProgress: (done, total, samples) =>
          progress.update(`${formatBytes(done)} of ${formatBytes(total)}, ${some(samples, 'sample')}`),
      },
      renderer,
    );
    progress.clear();
    const findings = findingsOf(inspection, settings);
    if (report !== null) {
      const facts = [
        ['model', dir],
        ['data', flags.data.join(', ')],
        ['chat template', inspection.template ?? 'none'],
        ['train on', settings.trainOn],
      ] as const;
      await writeFile(report, inspectionPage(inspection, findings, { title: 'Training data', facts }));
    }
    if (flags.json)
      printJson(context, { schemaVersion: 1, event: 'inspected', settings, ...inspection, findings, report });
    else {
      printLines(
        context,
        inspectionLines(inspection, findings, { tokens: flags.tokens === true }, context.stdout),
      );
      if (report !== null) printLines(context, ['', `report ${report}`]);
    }
    const errors = findings.filter(({ level }) => level === 'error');
    if (errors.length > 0) {
      throw cliError(
        'DATA_PROBLEMS',
        `training on this data would fail: ${errors[0]!.message}`,
        { codes: errors.map(({ code }) => code) },
        { next: 'correct what is marked as an error above, then inspect again' },
      );
    }
  } finally {
    progress.clear();
    await renderer.close();
  }
}
