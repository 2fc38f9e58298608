import {
  countOf,
  figureName,
  formatBytes,
  formatCount,
  formatDuration,
  formatFigure,
  formatLoss,
  safeText,
  table,
} from '../../common/text.ts';
import type { CheckpointView, JobSummary, SampleResult } from '../../index.ts';
import { shortPeer } from '../../protocol/ids.ts';
import { SWARM } from '../command-name.ts';

/** Returns a table of a job's checkpoints. @param columns maximum length of a line */
export function checkpointTable(checkpoints: readonly CheckpointView[], columns?: number): string[] {
  const hasTasks = checkpoints.some(({ tasks }) => tasks !== null);
  const ifTasks = (cell: string): string[] => (hasTasks ? [cell] : []);
  return table(
    [
      [
        'round',
        'held-out loss',
        ...ifTasks('tasks'),
        'nodes',
        'tokens',
        'update bytes',
        'weights',
        'digest',
        '',
      ],
      ...checkpoints.map(({ round, restores, digest, kept, isBest, tasks, checkpoint }) => [
        restores === null ? String(round) : `${round} (= ${restores})`,
        formatLoss(checkpoint.metrics.heldOutLoss),
        ...ifTasks(tasks === null ? '–' : taskCell(tasks)),
        // A merge can include two updates of a node, one of them late. The node counts once.
        String(new Set(checkpoint.contributors.map(({ peer }) => peer)).size),
        formatCount(checkpoint.metrics.tokens),
        formatBytes(checkpoint.metrics.updateBytes),
        kept ? 'kept' : 'deleted',
        digest.slice(0, 12),
        isBest ? 'best' : '',
      ]),
    ],
    { columns },
  );
}

/** Returns a line for the checkpoint of round 0, which the job has not trained; no line for other checkpoints. */
export function initialLines(round: number): string[] {
  return round === 0 ? ['round 0 is the initial adapter of the job, before any training by the job'] : [];
}

/**
 * Returns a line about the best checkpoint of a job if a checkpoint with another adapter was chosen.
 * @param all checkpoints of the job
 */
export function betterLines(chosen: CheckpointView, all: readonly CheckpointView[]): string[] {
  const best = all.find(({ isBest }) => isBest);
  if (best === undefined || best.checkpoint.adapter.digest === chosen.checkpoint.adapter.digest) return [];
  const value = best.tasks?.value ?? null;
  const [better, own] =
    value === null
      ? [`held-out loss ${lossOf(best)}`, lossOf(chosen)]
      : [`task metric ${formatFigure(value)}`, metricOf(chosen)];
  return [
    `the best checkpoint is that of round ${best.round}, with the ${better} (this one: ${own}); choose it with --round best`,
  ];
}

function lossOf({ checkpoint }: CheckpointView): string {
  return formatLoss(checkpoint.metrics.heldOutLoss);
}

/** Returns the metric that decides which checkpoint of a job is the best. */
function metricOf({ tasks }: CheckpointView): string {
  const value = tasks?.value ?? null;
  return value === null ? 'not evaluated' : formatFigure(value);
}

/**
 * Returns a text with the number of checkpoints that a job still makes after a roll-back, which is one of them. The round in
 * progress may still end with a checkpoint before it.
 */
export function afterRollBackText({ rounds, roundsDone, name }: JobSummary): string {
  const left = Math.max(0, rounds - roundsDone - 1);
  return `at most ${countOf(left, 'checkpoint')} of ${rounds} remain after the roll-back; for more, run: ${SWARM} job set ${name} rounds.count=N`;
}

/**
 * Says how to keep the best checkpoint if a roll-back undoes it: from then on, it no longer counts as the best, whose
 * weights are always kept.
 * @param job the job before the roll-back, to the checkpoint of round `to`
 */
export function undoneBestText({ best, name }: Pick<JobSummary, 'best' | 'name'>, to: number): string[] {
  if (best === null || best.round <= to) return [];
  const { round } = best;
  return [
    `the roll-back undoes the best checkpoint, of round ${round}, whose weights may be deleted in a few rounds; to keep them, run: ${SWARM} checkpoint publish ${name} --round ${round}`,
  ];
}

/** Describes one checkpoint with its parent, contributors and metrics. */
export function checkpointLines(view: CheckpointView): string[] {
  const { round, restores, digest, parent, path, kept, isBest, tasks, checkpoint } = view;
  const { metrics, contributors } = checkpoint;
  return [
    `checkpoint    round ${round}  ${digest}`,
    ...(restores === null ? [] : [`rolled back   to the adapter of round ${restores}`]),
    `parent        ${parent ?? 'none: the initial adapter'}`,
    `base          ${checkpoint.base}`,
    `adapter       ${checkpoint.adapter.digest}  ${formatBytes(checkpoint.adapter.size)}`,
    `folder        ${path}${kept ? '' : '  (signed record only: the weights have been deleted)'}`,
    `created       ${new Date(checkpoint.createdAt).toISOString()} in ${formatDuration(metrics.seconds)}`,
    `held-out loss ${formatLoss(metrics.heldOutLoss)} over ${formatCount(metrics.heldOutTokens)} tokens`,
    `training loss ${formatLoss(metrics.trainLoss)} over ${formatCount(metrics.tokens)} tokens`,
    ...(isBest ? ['best          the best checkpoint of the job so far'] : []),
    ...taskLines(tasks),
    `outer rate    ${metrics.outerRate}`,
    ...(metrics.drift === null ? [] : [`drift         ${metrics.drift.toFixed(4)}`]),
    ...contributors.map(
      (c) =>
        `update        ${shortPeer(c.peer)}  round ${c.round}  weight ${c.weight.toFixed(3)}  ${formatCount(c.tokens)} tokens`,
    ),
  ];
}

/** Returns the samples of a checkpoint: each prompt with its continuations by the base and by the checkpoint. */
export function sampleLines(samples: SampleResult | null): string[] {
  if (samples === null) return [];
  if (samples.texts === null) return [`samples       none: ${safeText(samples.reason)}`];
  const shown = (text: string): string[] =>
    safeText(text, { multiline: true, maxCharacters: Number.POSITIVE_INFINITY })
      .split('\n')
      .map((line) => `  ${line}`);
  return samples.texts.flatMap(({ prompt, isHeldOut, before, after }, i) => [
    '',
    `sample ${i + 1}, the prompt${isHeldOut ? ' (the beginning of a held-out row)' : ''}:`,
    ...shown(prompt),
    'continued by the base:',
    ...shown(before),
    'continued by the checkpoint:',
    ...shown(after),
  ]);
}

function taskCell({ value, figures }: NonNullable<CheckpointView['tasks']>): string {
  if (value !== null) return formatFigure(value);
  return figures === null ? 'failed' : 'evaluated';
}

/**
 * Returns a line for each figure of a checkpoint, without standard errors. If the evaluation failed, returns one line
 * with the reason.
 */
function taskLines(tasks: CheckpointView['tasks']): string[] {
  if (tasks === null) return [];
  if (tasks.figures === null) return [`tasks         not evaluated: ${safeText(tasks.reason)}`];
  return Object.entries(tasks.figures)
    .filter(([name]) => !name.includes('_stderr,'))
    .map(([name, value]) => `task          ${safeText(figureName(name))} ${formatFigure(value)}`);
}
