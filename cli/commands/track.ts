import { join } from 'node:path';
import type { Command } from 'commander';
import { countOf, formatLoss } from '../../common/text.ts';
import type { JobDetail } from '../../index.ts';
import { openCsv } from '../../monitor/tracking/csv.ts';
import { openMlflow } from '../../monitor/tracking/mlflow.ts';
import { type Point, pointOfCheckpoint, type Tracker } from '../../monitor/tracking/points.ts';
import { openTensorboard } from '../../monitor/tracking/tensorboard.ts';
import { type CaughtUp, track as copyFigures, type TrackedPoints } from '../../monitor/tracking/track.ts';
import type { Context } from '../context.ts';
import { chooseJob, coordinatorApi, JOB_ARGUMENT } from '../daemon/connect.ts';
import { usageError } from '../errors.ts';
import { homeOption, jsonOption, notAFlag } from '../options/common.ts';
import { ProgressLine, printJson, printLines } from '../print.ts';

interface TrackOptions {
  home?: string;
  csv?: string;
  tensorboard?: string;
  mlflow?: string;
  experiment: string;
  follow: boolean;
  json?: boolean;
}

export function registerTrack(program: Command, context: Context): void {
  program
    .command('track')
    .description(
      'copy the losses and speeds of all rounds of a job to a table, TensorBoard or MLflow, until the job ends',
    )
    .argument(...JOB_ARGUMENT)
    .addOption(homeOption())
    .option('--csv <file>', 'write a table with one row per round', notAFlag)
    .option(
      '--tensorboard <folder>',
      'write a run for TensorBoard into this folder; the command "tensorboard --logdir FOLDER" shows the run',
      notAFlag,
    )
    .option(
      '--mlflow <url>',
      'add a run to this MLflow server; if the server needs a token, set the environment variable MLFLOW_TRACKING_TOKEN',
      notAFlag,
    )
    .option('--experiment <name>', 'experiment of MLflow to which the run is added', 'lora-swarm')
    .option('--no-follow', 'copy only the rounds that have ended so far, and stop')
    .addOption(jsonOption())
    .action((job: string | undefined, options: TrackOptions) => track(context, job, options));
}

async function track(context: Context, named: string | undefined, options: TrackOptions): Promise<void> {
  if (!options.csv && !options.tensorboard && !options.mlflow) {
    throw usageError('no destination is given', 'add --csv FILE, --tensorboard FOLDER or --mlflow URL');
  }
  const api = await coordinatorApi(context, options);
  const job = await api.job(await chooseJob(api, named));
  const trackers = await openTrackers(context, job, options);
  const progress = new ProgressLine(context);
  const onPoint = (point: Point): void => {
    if (options.json) printJson(context, { schemaVersion: 1, event: 'point', ...point });
    else progress.update(`round ${point.round}: held-out loss ${formatLoss(point.values['loss/held_out'])}`);
  };
  const open = () => coordinatorApi(context, options);
  const { signal } = context;
  const { followEvents } = await import('../../index.ts');
  const events = options.follow
    ? followEvents(open, job.job, { signal })
    : api.events(job.job, { follow: false, signal });
  const lostPoints = async ({ before, round, sequence }: CaughtUp): Promise<Point[]> => {
    // The coordinator has restarted before this event, so its API may have another address.
    const checkpoints = await (await open()).checkpoints(job.job);
    return checkpoints
      .filter((view) => view.round > before && view.round <= round)
      .map(({ checkpoint, restores }) => pointOfCheckpoint(checkpoint, { restores, sequence }))
      .reverse();
  };
  const past = job.checkpoint.round;
  const count = await copyFigures(events, trackers, { past, lostPoints, onPoint }).finally(() =>
    progress.clear(),
  );
  if (!options.json) printLines(context, [`${job.name}: ${countText(count)}`, ...nextLines(options)]);
}

function countText({ added, known }: TrackedPoints): string {
  const before = known === 0 ? '' : `; ${countOf(known, 'round')} had been copied before`;
  return `copied ${countOf(added, 'round')}${before}`;
}

async function openTrackers(context: Context, job: JobDetail, options: TrackOptions): Promise<Tracker[]> {
  const { csv, tensorboard, mlflow, experiment } = options;
  const { signal, environment } = context;
  const { manifest, name, createdAt } = job;
  const parameters = {
    base: manifest.base.name,
    rank: String(manifest.lora.rank),
    learning_rate: String(manifest.training.learningRate),
    rounds: String(manifest.rounds.count),
    local_steps: String(manifest.rounds.localSteps),
  };
  return [
    ...(mlflow
      ? [
          await openMlflow(
            { url: mlflow, token: environment.MLFLOW_TRACKING_TOKEN ?? null, experiment, signal },
            { digest: job.job, name, createdAt, parameters },
          ),
        ]
      : []),
    // The tracking server may refuse the run. Files are written only after the server has accepted the run.
    ...(csv ? [await openCsv(csv, job.job)] : []),
    ...(tensorboard ? [await openTensorboard(join(tensorboard, name), { name, createdAt })] : []),
  ];
}

function nextLines({ csv, tensorboard, mlflow }: TrackOptions): string[] {
  return [
    ...(csv ? [`table       ${csv}`] : []),
    ...(tensorboard ? [`next        tensorboard --logdir ${tensorboard}`] : []),
    ...(mlflow ? [`run         ${mlflow}`] : []),
  ];
}
