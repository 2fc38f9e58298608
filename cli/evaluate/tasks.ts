import { resolve } from 'node:path';
import { commonError } from '../../common/common-errors.ts';
import { percentDone } from '../../common/text.ts';
import type { ModelNames, TaskEvaluation, TaskProgress } from '../../index.ts';
import { BASE_ALIAS } from '../../protocol/ids.ts';
import type { Context } from '../context.ts';
import { type ModelFlags, openModelBundle } from '../options/model.ts';
import { ProgressLine, printJson, printLines, printNote, terminalColumns } from '../print.ts';
import { comparisonLines, taskTable } from '../views/tasks.ts';
import { otherModel } from './other-model.ts';
import { recordedVersion, recordFigures } from './record.ts';

export interface TaskFlags extends ModelFlags {
  tasks: string[];
  against?: string[];
  report?: string;
  trainingLog?: string;
  record?: boolean;
  limit?: number;
  maxLength?: number;
  json?: boolean;
}

/** Evaluates a model on task files, compares it with the model of --against if there is one, and writes a report. */
export async function evaluateOnTasks(context: Context, options: TaskFlags): Promise<void> {
  const { evaluateTasks } = await import('../../index.ts');
  const { signal, cwd } = context;
  if (options.trainingLog !== undefined && options.report === undefined) {
    throw commonError('USAGE', '--training-log needs --report', {}, { next: 'add --report DIR' });
  }
  if (options.record && options.limit !== undefined) {
    throw commonError(
      'USAGE',
      '--record stores figures over all documents, but --limit leaves some documents out',
      {},
      { next: 'leave out --limit' },
    );
  }
  const other = onlyOther(options);
  const recorded = options.record ? await recordedVersion(options.adapter) : null;
  const lossCurve = await trainingLosses(context, options);
  const bundle = await openModelBundle(context, options);
  const against =
    other === undefined ? undefined : await otherModel(context, options, { against: other, bundle });
  const line = new ProgressLine(context);
  let evaluation: TaskEvaluation;
  try {
    evaluation = await evaluateTasks(bundle, {
      tasks: options.tasks.map((path) => resolve(cwd, path)),
      against,
      limit: options.limit,
      maxLength: options.maxLength,
      onProgress: ({ task, isAgainst, done, total }: TaskProgress) =>
        line.update(
          `${task}${isAgainst ? ` (${other})` : ''}  ${done} of ${total} requests  ${percentDone(done, total)}`,
        ),
      signal,
    });
  } finally {
    line.clear();
  }
  const files = await report(context, options, { evaluation, lossCurve });
  if (recorded !== null) {
    const label = await recordFigures(context, recorded, evaluation.figures);
    printNote(context, `stored the figures with ${label}`);
  }
  print(context, options, evaluation, files);
}

/** Returns the value of --against; undefined without this option. @throws USAGE if there are several values */
function onlyOther({ against = [] }: TaskFlags): string | undefined {
  if (against.length < 2) return against[0];
  throw commonError(
    'USAGE',
    `--tasks compares with one model at a time, and --against names ${against.length}: ${against.join(', ')}`,
    { against },
    { next: 'name one model, or compare all of them with --data' },
  );
}

async function trainingLosses({ cwd }: Context, { trainingLog }: TaskFlags) {
  if (trainingLog === undefined) return null;
  const { readLossCurve } = await import('../../lora/evaluate/report/loss-curve.ts');
  return readLossCurve(resolve(cwd, trainingLog));
}

interface ReportContent {
  readonly evaluation: TaskEvaluation;
  readonly lossCurve: Awaited<ReturnType<typeof trainingLosses>>;
}

async function report(
  context: Context,
  options: TaskFlags,
  { evaluation, lossCurve }: ReportContent,
): Promise<string[]> {
  if (options.report === undefined) return [];
  const { writeReport } = await import('../../index.ts');
  const { model, adapter = null } = options;
  const against = onlyOther(options);
  const other: ModelNames | null =
    against === undefined ? null : { base: model, adapter: against === BASE_ALIAS ? null : against };
  return writeReport(resolve(context.cwd, options.report), evaluation, {
    date: new Date(context.clock.now()),
    version: context.version,
    model: { base: model, adapter },
    against: other,
    lossCurve,
  });
}

function print(
  context: Context,
  options: TaskFlags,
  evaluation: TaskEvaluation,
  files: readonly string[],
): void {
  const { figures, against, comparison } = evaluation;
  if (options.json) {
    printJson(context, {
      schemaVersion: 1,
      ...figures,
      ...(comparison && { against: against?.figures, comparison }),
      ...(files.length > 0 && { files }),
    });
    return;
  }
  const columns = terminalColumns(context);
  printLines(context, [
    ...(comparison === null
      ? taskTable(figures, columns)
      : comparisonLines(comparison, onlyOther(options)!, columns)),
    ...(files.length === 0 ? [] : ['', ...files.map((file) => `written  ${file}`)]),
  ]);
}
