import {
  changeText,
  countOf,
  figureName,
  formatBytes,
  formatChange,
  formatCount,
  formatDuration,
  formatFigure,
  formatLoss,
  pauseText,
  phaseText,
  roundLeftText,
  roundText,
  safeText,
} from '../../common/text.ts';
import type { CoordinatorStatus, JobDetail, JobSummary } from '../../index.ts';
import { ordersText, shortOrdersText } from '../../monitor/pending-orders.ts';
import { SWARM } from '../command-name.ts';
import { reachLines } from './reach.ts';

/** Number of spaces before the text of each line of a status. */
export const STATUS_INDENT = 12;

/** Returns the status of a coordinator as lines of text that fit on one screen. */
export function coordinatorLines(status: CoordinatorStatus, url: string): string[] {
  const { sent, received } = status.traffic;
  return [
    `coordinator ${status.peerId}  v${status.version}  up ${formatDuration(status.uptimeSeconds)}`,
    ...reachLines(status.reach),
    `api         ${url}`,
    `traffic     sent ${formatBytes(sent)}, received ${formatBytes(received)}`,
    ...(status.jobs.length === 0 ? ['jobs        none yet'] : status.jobs.flatMap(jobLines)),
    `next        ${status.jobs.length === 0 ? `${SWARM} job create FILE.yaml` : nextFor(status.jobs)}`,
  ];
}

/** Returns a line with the shared invite of each job that has not ended. */
export function inviteLines(jobs: readonly JobSummary[]): string[] {
  return jobs
    .filter(({ phase }) => phase !== 'finished')
    .map(({ name, invite }) => `invite      ${name}: ${invite ?? 'revoked'}`);
}

/** Returns the round of a job, or the number of checkpoints if the job has ended. */
export function progressText(job: JobSummary): string {
  const { phase, round, rounds, roundsDone } = job;
  return phase === 'finished' ? `${roundsDone} of ${rounds} checkpoints` : roundText(round, job);
}

/** Returns the phase of a job for a table, whether the job is held, and the orders that wait for the end of its round. */
export function phaseCell(job: JobSummary): string {
  if (job.after !== null) return `queued after ${job.after.name}`;
  return `${phaseText(job)}${job.isHeld ? ', held' : ''}${shortOrdersText(job)}`;
}

/**
 * Returns the effect of an operator's order on a job. A round that is being merged or committed ends before a pause or a
 * stop takes effect.
 * @param job the job after the order
 * @param before the job before the order. @default it had no pending orders
 */
export function orderText(
  job: JobSummary,
  action: 'pause' | 'resume' | 'stop',
  before: Pick<JobSummary, 'pendingOrders'> = { pendingOrders: [] },
): string {
  const pending = ordersText(job);
  if (pending !== '') return `job ${job.name} ${pending}`;
  const hadPause = before.pendingOrders.some((order) => order.action === 'pause');
  if (action === 'resume' && hadPause)
    return `job ${job.name} no longer pauses after round ${job.round}; it is ${phaseText(job)}`;
  const why = job.reason === '' || action === 'resume' ? '' : `: ${safeText(job.reason)}`;
  return `job ${job.name} is ${restText(job)}${why}`;
}

/**
 * Returns the effect of an order to roll a job back.
 * @param job the job after the order
 * @param what the checkpoint that the job restores, such as "the checkpoint of round 5"
 */
export function rollBackText(job: JobSummary, what: string): string {
  const waits = job.pendingOrders.some(({ action }) => action === 'roll-back');
  if (waits) return `job ${job.name} ${ordersText(job)}`;
  // A paused job makes the roll-back in a round of its own, and pauses again after it.
  const isPaused = job.phase === 'paused' || job.pendingOrders.some(({ action }) => action === 'pause');
  return `job ${job.name} goes back to ${what}${isPaused ? ', and stays paused' : `; it is ${job.phase}`}`;
}

/** Returns the phase of a job. For a paused job, the text says which round has ended last. */
function restText(job: JobSummary): string {
  return job.phase === 'paused' ? pauseText(job.round) : phaseText(job);
}

/** Returns the status of a job in a few lines. The lines of a job that has ended contain no invite. */
export function jobLines(job: JobSummary): string[] {
  const { rolledBack } = job;
  const left = job.secondsLeft === null ? '' : `, ${roundLeftText(job.secondsLeft)}`;
  const why = [safeText(job.reason), ordersText(job)].flatMap((text) => (text === '' ? [] : `  (${text})`));
  const speed = job.tokensPerSecond > 0 ? `, ${formatCount(job.tokensPerSecond)} tokens/s` : '';
  return [
    `job         ${job.name}  ${job.job.slice(0, 12)}  ${progressText(job)}  ${restText(job)}${left}${why.join('')}`,
    `            held-out loss ${lossOf(job)}${bestOf(job)}, ${countOf(job.peers, 'node')}${speed}`,
    ...waitingLines(job),
    ...(rolledBack === null
      ? []
      : [`            rolled back in round ${rolledBack.round} to the checkpoint of round ${rolledBack.to}`]),
    ...(job.newestChange === null
      ? []
      : [
          `            from round ${job.newestChange.fromRound}: ${changeText(job.newestChange.changes)} (${SWARM} job show ${job.name})`,
        ]),
    ...tasksLines(job),
    ...(job.phase === 'finished'
      ? []
      : [
          `            invite ${job.invite ?? `revoked; to create a personal invite, run ${SWARM} invite create ${job.name}`}`,
        ]),
  ];
}

/** Returns a line about the nodes that take no work for now or cannot join; no line if there are none. */
function waitingLines({ waitingNodes }: JobSummary): string[] {
  if (waitingNodes.length === 0) return [];
  const total = waitingNodes.reduce((sum, { nodes }) => sum + nodes, 0);
  const reasons = waitingNodes.map(({ reason, nodes }) => (nodes === 1 ? reason : `${nodes} ${reason}`));
  return [`            no work for ${countOf(total, 'node')}: ${reasons.join(', ')} (${SWARM} peers)`];
}

/** Returns a line about what a job is doing or waiting for; null if it has ended. */
export function jobActivity(job: JobDetail): string | null {
  const nodes = countOf(job.peers, 'node');
  switch (job.phase) {
    case 'finished':
      return null;
    case 'paused':
      return `${job.name} is ${pauseText(job.round)}${job.reason === '' ? '' : `: ${safeText(job.reason)}`}`;
    case 'queued':
      return `${job.name} is queued: ${safeText(job.reason)}`;
    case 'waiting':
      return job.peers >= job.settings.minPeers
        ? `${job.name} is about to start with ${nodes}`
        : `${job.name} is waiting for nodes: it has ${job.peers} and needs ${job.settings.minPeers}; they join with "${SWARM} node -" and the invite`;
    default: {
      const { assigned, received } = job.updates;
      const left = job.secondsLeft === null ? '' : `, ${roundLeftText(job.secondsLeft)}`;
      const pending = ordersText(job);
      return `${job.name} ${roundText(job.round, job)}: ${job.phase}, ${nodes}, ${received.length} of ${assigned.length} updates${left}${pending === '' ? '' : `; ${pending}`}`;
    }
  }
}

/**
 * Returns a line with the newest and the best value of the metric that the job has chosen; no line without
 * such values.
 */
function tasksLines({ tasks }: JobSummary): string[] {
  const { metric = null, newest = null, best = null } = tasks ?? {};
  if (metric === null || newest === null || newest.value === null) return [];
  const better =
    best === null || best.round === newest.round
      ? ''
      : `, best ${formatFigure(best.value)} in round ${best.round}`;
  return [
    `            ${safeText(figureName(metric))} ${formatFigure(newest.value)} in round ${newest.round}${better}`,
  ];
}

function lossOf({ baseLoss, heldOutLoss }: JobSummary): string {
  if (heldOutLoss === null) return formatLoss(baseLoss);
  const change =
    baseLoss === null
      ? ''
      : ` (initial adapter ${formatLoss(baseLoss)}, ${formatChange(heldOutLoss - baseLoss)})`;
  return `${formatLoss(heldOutLoss)}${change}`;
}

/**
 * Returns a text with the best checkpoint if that is not the newest checkpoint. The text is empty if a metric of a task
 * decides which checkpoint is best, because the line about the tasks then names the checkpoint.
 */
function bestOf({ best, checkpoint, tasks }: JobSummary): string {
  if (best === null || best.round === checkpoint.round || (tasks?.metric ?? null) !== null) return '';
  return `, best ${formatLoss(best.heldOutLoss)} in round ${best.round}`;
}

function nextFor(jobs: readonly JobSummary[]): string {
  const paused = jobs.find((job) => job.needsOperator);
  if (paused) return `${SWARM} job resume ${paused.name}`;
  if (jobs.some((job) => job.phase === 'waiting'))
    return `on another machine, run ${SWARM} node - and paste the invite`;
  const finished = jobs.find((job) => job.phase === 'finished');
  if (finished) return `${SWARM} checkpoint export ${finished.name} DIR`;
  return `${SWARM} peers`;
}

/** Formats the changes that `lora-swarm job set` made to a job. */
export function changeLines(before: JobDetail, after: JobDetail): string[] {
  const lines = after.settingsChanges
    .slice(before.settingsChanges.length)
    .map(({ fromRound, changes }) => `from round ${fromRound}: ${changeText(changes)}`);
  if (before.priority !== after.priority) lines.push(`priority ${before.priority} → ${after.priority}`);
  const [every, newEvery] = [before.tasks?.every, after.tasks?.every];
  if (every !== newEvery) lines.push(`tasks.every ${every} → ${newEvery}`);
  return lines.length === 0 ? ['nothing has changed: the job already has these settings'] : lines;
}

/** Returns a line that says how often a job's checkpoints are evaluated on its tasks; no line without tasks. */
export function evaluationLines({ tasks }: JobDetail): string[] {
  if (tasks === null) return [];
  const which = tasks.every === 1 ? 'every checkpoint' : `every ${tasks.every} checkpoints, and the last one`;
  return [`tasks       evaluated: ${which}`];
}

/** Returns a line for each change of a job's settings, oldest first. */
export function historyLines({ settingsChanges }: JobDetail): string[] {
  return settingsChanges.map(({ fromRound, changes, digest, reason, at }) => {
    const why = reason === '' ? '' : `  (${safeText(reason)})`;
    return `changed     from round ${fromRound}: ${changeText(changes)}${why}  ${new Date(at).toISOString()}  ${digest.slice(0, 12)}`;
  });
}
