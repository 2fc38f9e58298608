import {
  countOf,
  formatChange,
  formatCount,
  formatDuration,
  formatLoss,
  phaseText,
  roundLeftText,
  roundText,
  safeText,
  table,
} from '../../common/text.ts';
import type { HealthLevel, JobDetail, JobEvent, JobSummary, PeerView } from '../../index.ts';
import { alertsOf, inJob } from '../../monitor/alerts.ts';
import { ordersText, shortOrdersText } from '../../monitor/pending-orders.ts';
import { progressOf } from '../../monitor/round-progress.ts';
import { bar } from '../node-screen/columns.ts';
import { timeOfDay } from '../print.ts';
import { nodeName } from '../views/events.ts';
import { acceptedText } from '../views/peers.ts';
import type { FrameLine, Tone, ViewLines } from './lines.ts';
import { lossCurve } from './loss-curve.ts';
import type { CoordinatorFacts } from './state.ts';

/** Symbols that show health levels in addition to colours. The web page uses the same symbols. */
const SHAPES: Readonly<Record<HealthLevel, string>> = { green: '●', yellow: '▲', red: '■', grey: '○' };
const TONES: Readonly<Record<HealthLevel, Tone>> = {
  green: 'green',
  yellow: 'yellow',
  red: 'red',
  grey: 'dim',
};
/** Maximum number of alerts in the overview. `lora-swarm peers` shows all alerts. */
const SHOWN_ALERTS = 3;
/** Number of jobs that the overview shows even if the nodes of the round then have too few rows. */
const SHOWN_JOBS = 4;
/** Maximum length of the name of a node or job in a table, in characters. */
const NAME = 20;

const title = (text: string): FrameLine => ({ text, tone: 'title' });

/**
 * Returns lines about the jobs, the alerts, and the loss and the round of the chosen job.
 * @param size `rows`: the number of rows for these lines
 */
export function overviewLines(
  facts: CoordinatorFacts,
  { width, rows }: { width: number; rows: number },
): ViewLines {
  const { status, job, peers } = facts;
  if (job === null) {
    return { fixed: [], list: [{ text: 'no jobs yet; create one with "lora-swarm job create FILE.yaml"' }] };
  }
  const alerts = alertLines(facts);
  const more = alerts.length - SHOWN_ALERTS;
  const rest = [
    ...(alerts.length === 0 ? [] : [title('alerts')]),
    ...alerts.slice(0, SHOWN_ALERTS),
    ...(more > 0 ? [{ text: `  and ${countOf(more, 'more alert')}`, tone: 'dim' as const }] : []),
    title(`held-out loss of ${job.name}`),
    { text: `  ${lossCurve(lossesOf(facts), width - 4)}` },
    title(`${roundText(job.round, job)}: ${roundSummary(job)}`),
  ];
  const list = roundNodes(job, peers);
  const room = rows - 1 - rest.length - list.length;
  return { fixed: [title('jobs'), ...jobLines(status.jobs, job, room), ...rest], list };
}

/** Returns a table of the nodes of the chosen job; nodes that need attention come first. */
export function peersLines({ job, peers }: CoordinatorFacts): ViewLines {
  const own = peers.filter((peer) => peer.job === job?.job || peer.job === '');
  const order: readonly HealthLevel[] = ['red', 'yellow', 'green', 'grey'];
  const sorted = own.toSorted((a, b) => order.indexOf(a.health.level) - order.indexOf(b.health.level));
  const rows = table([
    ['node', 'tokens/s', 'round trip', 'accepted', 'standing', 'health'],
    ...sorted.map((peer) => [
      `${SHAPES[peer.health.level]} ${nodeName(peer)}`,
      formatCount(peer.tokensPerSecond),
      peer.rttMs === null ? '–' : `${Math.round(peer.rttMs)} ms`,
      acceptedText(peer),
      peer.standing,
      safeText(peer.health.reason),
    ]),
  ]);
  return {
    fixed: [title(rows[0]!)],
    list:
      sorted.length === 0
        ? [{ text: 'no node has joined this job yet' }]
        : rows.slice(1).map((text, i) => ({ text, tone: TONES[sorted[i]!.health.level] })),
  };
}

/** Returns a table of the rounds of the chosen job, newest first. */
export function roundsLines(facts: CoordinatorFacts, width: number): ViewLines {
  const { job, history } = facts;
  const rows = roundRows(history);
  const lines = table([
    ['round', 'held-out loss', 'change', 'updates', 'tokens/s', 'time', 'outcome'],
    ...rows,
  ]);
  return {
    fixed: [
      { text: `${job?.name ?? 'no job'}  ${lossCurve(lossesOf(facts), width - NAME)}` },
      title(lines[0]!),
    ],
    list: lines.slice(1).map((text) => ({ text })),
  };
}

/** Returns the events of the chosen job, newest first. */
export function eventLines({ events, job }: CoordinatorFacts, now: number): ViewLines {
  return {
    fixed: [title(`events of ${job?.name ?? 'no job'}`)],
    list: events.toReversed().map(({ at, text }) => ({
      text: `${now - at < DAY_MS ? timeOfDay(at) : new Date(at).toISOString().slice(0, 10)}  ${text}`,
      ...(text.startsWith('!') && { tone: 'yellow' as const }),
    })),
  };
}

const DAY_MS = 86_400_000;

/** Returns a line for each job and node that is not healthy, the worst first. */
function alertLines({ status, peers }: Pick<CoordinatorFacts, 'status' | 'peers'>): FrameLine[] {
  return alertsOf(status.jobs, peers).map(({ level, job, peer, reason }) => {
    const subject = peer === null ? `job ${job}` : `${nodeName(peer)}${inJob(job)}`;
    return { text: `  ${SHAPES[level]} ${subject}: ${safeText(reason)}`, tone: TONES[level] };
  });
}

/** Returns lines about as many jobs as fit into `room` rows. The chosen job is always one of them. */
function jobLines(jobs: readonly JobSummary[], chosen: JobDetail, room: number): FrameLine[] {
  // If not all jobs fit, the last row says how many are missing.
  const limit = jobs.length <= room ? jobs.length : Math.max(SHOWN_JOBS, room - 1);
  const at = jobs.findIndex(({ job }) => job === chosen.job);
  const from = Math.max(0, at - limit + 1);
  const shown = jobs.slice(from, from + limit);
  const rows = table([
    ['', '', '', '', '', '', ''],
    ...shown.map((job) => [
      `${job.job === chosen.job ? '>' : ' '} ${SHAPES[job.health.level]} ${safeText(job.name, { maxCharacters: NAME })}`,
      `${phaseText(job)}${shortOrdersText(job)}`,
      `${job.roundsDone}/${job.rounds}`,
      `loss ${formatLoss(job.heldOutLoss)}`,
      job.lowestLoss === null ? '' : `lowest ${formatLoss(job.lowestLoss)}`,
      `${formatCount(job.tokensPerSecond)} tokens/s`,
      countOf(job.peers, 'node'),
    ]),
  ]);
  const hidden = jobs.length - shown.length;
  return [
    ...rows.slice(1).map((text, i) => ({ text, tone: TONES[shown[i]!.health.level] })),
    ...(hidden > 0 ? [{ text: `    and ${countOf(hidden, 'other job')}`, tone: 'dim' as const }] : []),
  ];
}

function roundSummary(job: JobDetail): string {
  const { reason, secondsLeft, updates } = job;
  const { assigned, received } = updates;
  const pending = ordersText(job);
  return [
    phaseText(job),
    ...(reason === '' ? [] : [safeText(reason)]),
    ...(pending === '' ? [] : [pending]),
    ...(assigned.length === 0 ? [] : [`${received.length} of ${countOf(assigned.length, 'update')}`]),
    ...(secondsLeft === null ? [] : [roundLeftText(secondsLeft)]),
  ].join(', ');
}

/** Returns a line for each node of the open round. The nodes that the round waits for come first. */
function roundNodes(
  { updates: { round, assigned, received }, job }: JobDetail,
  peers: readonly PeerView[],
): FrameLine[] {
  const views = new Map(peers.filter((peer) => peer.job === job).map((peer) => [peer.peer, peer]));
  const has = new Set(received);
  const sorted = assigned.toSorted((a, b) => Number(has.has(a)) - Number(has.has(b)));
  return sorted.map((peer) => {
    const view = views.get(peer);
    const name = (view === undefined ? `…${peer.slice(-8)}` : nodeName(view)).padEnd(NAME + 6);
    if (has.has(peer)) return { text: `  ${name} ${bar(1, 10)} delivered`, tone: 'green' };
    if (view === undefined) return { text: `  ${name} ${bar(0, 10)} no longer a member`, tone: 'dim' };
    const { done, words } = progressOf(view, round);
    const trains = view.state === 'training' && view.round === round;
    const work = trains
      ? `training ${view.step}/${view.steps}, ${formatCount(view.tokensPerSecond)} tokens/s`
      : words;
    return {
      text: `  ${name} ${bar(done, 10)} awaited: ${work}`,
      tone: TONES[view.health.level],
    };
  });
}

/** Returns the held-out losses of the job's initial adapter and of its checkpoints, oldest first. */
function lossesOf({ job, history }: CoordinatorFacts): number[] {
  const losses = history.flatMap((event) =>
    event.type === 'checkpoint' && event.heldOutLoss !== null ? [event.heldOutLoss] : [],
  );
  const [first] = history;
  // The history has no event for the initial adapter, so its loss is taken from `baseLoss`. If the history begins after
  // round 1, the next losses are missing, so this loss is left out, too.
  const isFromStart = first === undefined || ('round' in first && first.round === 1);
  return isFromStart && typeof job?.baseLoss === 'number' ? [job.baseLoss, ...losses] : losses;
}

/** Returns a row for each round that has ended, newest first. */
function roundRows(history: readonly JobEvent[]): string[][] {
  const rows: string[][] = [];
  let last: number | null = null;
  for (const event of history) {
    if (event.type === 'null-round')
      rows.push([String(event.round), '–', '', '', '', '', `null round: ${safeText(event.reason)}`]);
    if (event.type === 'rolled-back') {
      rows.push([
        String(event.round),
        formatLoss(event.heldOutLoss),
        '',
        '',
        '',
        '',
        `rolled back to round ${event.to}`,
      ]);
      last = event.heldOutLoss;
    }
    if (event.type !== 'checkpoint') continue;
    const { round, heldOutLoss, updates, tokensPerSecond, seconds } = event;
    const change = last === null || heldOutLoss === null ? '' : formatChange(heldOutLoss - last);
    last = heldOutLoss ?? last;
    const facts = [String(updates), formatCount(tokensPerSecond), formatDuration(seconds)];
    rows.push([String(round), formatLoss(heldOutLoss), change, ...facts, 'checkpoint']);
  }
  return rows.reverse();
}
