import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { formatBytes } from '../../common/text.ts';
import { trainingSchema } from '../../protocol/job/manifest.ts';
import type { Context } from '../context.ts';
import { cliError } from '../error-codes.ts';
import { usageError, withoutOutput } from '../errors.ts';
import { BASE_MODEL, baseFolder } from '../models/base-model.ts';
import { collect, integer, jsonOption } from '../options/common.ts';
import { addDataOptions, DATA_FILES, type DataFlags, dataSettings } from '../options/data.ts';
import { ProgressLine, printJson, printLines, printPainted } from '../print.ts';
import { shareIn } from '../train/flag-layer.ts';

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
  const data = program.command('data').description('inspect training data before you train on it');
  const inspect = data
    .command('inspect')
    .description(
      'show samples as the model sees them, mark the tokens that count in the loss, and report problems of the data',
    )
    .requiredOption('--model <model>', `base model, for its tokenizer and chat template: ${BASE_MODEL}`)
    .requiredOption('--data <path...>', `training data, as ${DATA_FILES}`, collect)
    .option(
      '--held-out <path...>',
      'held-out data; the command reports samples that are also in the training data',
      collect,
    );
  addDataOptions(inspect, { packing: true })
    .option(
      '--sequence-length <tokens>',
      'number of tokens in a row',
      integer(8, 131072),
      trainingSchema.parse({}).sequenceLength,
    )
    .option(
      '--nodes <n>',
      'number of nodes to assume for the line "a job" of the output; this line shows how a job would divide the data between the nodes',
      integer(1, 100_000),
      4,
    )
    .option('--samples <n>', 'number of samples to show, chosen at random', integer(0, 1000), 3)
    .option('--limit <n>', 'stop reading after n samples (default: read all)', integer(1))
    .option('--tokens', 'show one token per line')
    .option('--html <file>', 'also write an HTML report to this file')
    .addOption(jsonOption())
    .action((flags: InspectFlags) => inspectCommand(context, flags));
}

async function inspectCommand(context: Context, flags: InspectFlags): Promise<void> {
  const { cwd, clock, signal } = context;
  if (shareIn(flags.heldOut) !== undefined) {
    throw usageError(
      `--held-out takes files, and ${flags.heldOut!.join(' ')} is a fraction of the data`,
      'leave out --held-out. Only "lora-swarm train" and job files can hold out a fraction of the data',
    );
  }
  const [{ inspect }, { inspectionLines }, { checkReport, inspectionPage }] = await Promise.all([
    import('../../lora/data/inspect/inspect.ts'),
    import('../data/terminal.ts'),
    import('../data/html.ts'),
  ]);
  const report = flags.html === undefined ? null : resolve(cwd, flags.html);
  if (report !== null) await checkReport(report);
  const modelDir = await baseFolder(context, flags.model);
  const settings = dataSettings(flags, cwd);
  const paths = (list: readonly string[]): string[] => list.map((path) => resolve(cwd, path));
  const progress = new ProgressLine(context);
  try {
    const inspection = await inspect({
      modelDir,
      data: paths(flags.data),
      heldOut: flags.heldOut ? paths(flags.heldOut) : null,
      settings,
      sequenceLength: flags.sequenceLength,
      nodes: flags.nodes,
      samples: flags.samples,
      limit: flags.limit ?? null,
      now: clock.now(),
      signal,
      onProgress: ({ bytes, totalBytes }) =>
        progress.update(`read ${formatBytes(bytes)} of ${formatBytes(totalBytes)}`),
    });
    progress.clear();
    if (report !== null) {
      const facts = [
        ['model', modelDir],
        ['data', flags.data.join(', ')],
        ['chat template', inspection.template ?? 'none'],
        ['train on', settings.trainOn],
      ] as const;
      await writeFile(report, inspectionPage(inspection, { title: 'Training data', facts }));
    }
    if (flags.json)
      printJson(context, { schemaVersion: 1, event: 'inspected', settings, ...inspection, report });
    else {
      printPainted(context, inspectionLines(inspection, { tokens: flags.tokens === true }, context.stdout));
      if (report !== null) printLines(context, ['', `report ${report}`]);
    }
    const errors = inspection.findings.filter(({ level }) => level === 'error');
    if (errors.length > 0) {
      const error = cliError(
        'DATA_PROBLEMS',
        `training on this data would fail: ${errors[0]!.message}`,
        { codes: errors.map(({ code }) => code) },
        { next: 'correct the errors listed above, then inspect the data again' },
      );
      // The printed object has the errors as findings, and one object is promised.
      throw flags.json ? withoutOutput(error) : error;
    }
  } finally {
    progress.clear();
  }
}
