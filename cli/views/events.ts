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
  safeText,
} from '../../common/text.ts';
import type { JobEvent } from '../../index.ts';
import { holdMeanings } from '../../protocol/holds.ts';
import { shortPeer } from '../../protocol/ids.ts';

/** Turns a job's events into lines of text: mainly one per round, with the change of the held-out loss. */
export class EventLines {
  #last: number | null;
  #rounds: number | null = null;
  #roundsDone = 0;

  constructor({ baseLoss = null }: { baseLoss?: number | null } = {}) {
    this.#last = baseLoss;
  }

  /** @returns null for an event that belongs only in the log */
  line(event: JobEvent): string | null {
    switch (event.type) {
      case 'job-created':
        this.#rounds = event.rounds;
        this.#roundsDone = 0;
        return `job ${event.name}: ${formatCount(event.parameters)} adapter parameters, ${countOf(event.rounds, 'round')}`;
      case 'queued':
        return `queued: it waits until job ${event.afterName} has ended`;
      case 'unqueued':
        return event.cause === 'ended'
          ? 'no longer queued: the job that it waited for has ended'
          : 'no longer queued: the operator resumed it';
      case 'settings-changed':
        this.#countChanged(event);
        return `from round ${event.fromRound}: ${changeText(event.changes)}${detail(event.reason)}`;
      case 'tasks-evaluated':
        return `round ${String(event.round).padStart(3)}  ${figuresText(event)}`;
      case 'sweep-won':
        return `won the sweep ${safeText(event.sweep)}, held-out loss ${formatLoss(event.heldOutLoss)}`;
      case 'sweep-failed':
        return `! ${safeText(event.reason)}`;
      case 'tasks-failed':
        return `! round ${event.round}: the checkpoint was not evaluated on the tasks: ${safeText(event.reason)}`;
      case 'tasks-changed':
        return `${changeText([event])}${detail(event.reason)}`;
      case 'sampled':
        return null;
      case 'samples-failed':
        return `! round ${event.round}: the checkpoint was not sampled: ${safeText(event.reason)}`;
      case 'priority-changed':
        return `priority ${event.before} → ${event.after}${detail(event.reason ?? '')}`;
      case 'peer-joined':
        return `+ ${nodeName(event)} joined${event.engine === '' ? '' : ` (${safeText(event.engine, { maxCharacters: 32 })})`}`;
      case 'peer-held':
        return event.reason === null
          ? `+ ${nodeName(event)} takes work now`
          : `! ${nodeName(event)} ${event.joined ? 'joined, but takes' : 'takes'} no work: ${holdMeanings[event.reason]}${detail(event.detail)}`;
      case 'duplicate-identity':
        return `! ${nodeName(event)} runs twice with one key; the second process, seen first at ${new Date(event.since).toISOString()}, is refused`;
      case 'peer-lost':
        return `- ${nodeName(event)} ${lostBecause(event.reason)}${event.joined ? ' (it had joined, but was not ready yet)' : ''}`;
      case 'update':
        return event.code === 'accepted' || event.code === 'late'
          ? null
          : `! round ${event.round}: update of ${shortPeer(event.peer)} refused: ${event.code}${detail(event.detail)}`;
      case 'update-undone':
        // The line of the event "null-round" says the same for all updates of the round.
        return event.code === 'null-round'
          ? null
          : `! round ${event.round}: update of ${shortPeer(event.peer)} not merged: ${event.code}${detail(event.detail)}`;
      case 'checkpoint':
        this.#roundsDone++;
        return this.#checkpoint(event);
      case 'rolled-back':
        this.#roundsDone++;
        return this.#rolledBack(event);
      case 'null-round':
        return `round ${String(event.round).padStart(3)}  null round: ${safeText(event.reason)}`;
      case 'scored':
        return event.disbelieved === 0
          ? null
          : `! round ${event.round}: ${countOf(event.disbelieved, 'update')} with weight 0, because the scores of their nodes are low (see lora-swarm peers)`;
      case 'scoring-failed':
        return `! round ${event.round}: the updates were not scored: ${safeText(event.reason)}`;
      case 'scorer-failed':
        return `! round ${event.round}: ${scorerText(event)}: ${safeText(event.reason)}`;
      case 'suspended':
        return `! node ${shortPeer(event.peer)} gets no work up to round ${event.until}, because of repeated strikes (see lora-swarm peers --why)`;
      case 'banned':
        return `! node ${shortPeer(event.peer)} is banned ${event.until === null ? 'for good' : `until ${new Date(event.until).toISOString()}`}${detail(event.reason)}`;
      case 'pardoned':
        return `node ${shortPeer(event.peer)} is pardoned`;
      case 'shared-fault':
        return `! round ${event.round}: ${event.faulty} of ${countOf(event.updates, 'update')} ${event.faulty === 1 ? 'is harmful, is far too large' : 'are harmful, are far too large'} or cannot be decoded; no node gets a strike, because the nodes probably share a fault`;
      case 'audited':
        return event.verdict === 'passed'
          ? null
          : `! round ${event.round}: update of ${shortPeer(event.peer)} failed an audit (closeness ${event.closeness.toFixed(2)})`;
      case 'audit-dropped':
        return `! round ${event.round}: update of ${shortPeer(event.peer)} was not audited: ${safeText(event.reason)}`;
      case 'blob-damaged':
        return `! the ${event.what} (${safeText(event.name)}) on the coordinator's disk is damaged or missing`;
      case 'blob-repaired':
        return `the ${event.what} (${safeText(event.name)}) is whole again: ${event.how === 'rebuilt' ? 'computed from other files' : 'fetched from a node'}`;
      case 'clock-set':
        return `! the clock of the coordinator was set ${event.byMs > 0 ? 'forward' : 'back'} by ${formatDuration(Math.abs(event.byMs) / 1000)}; rounds keep their deadlines, but nodes whose clocks differ from it by more than a minute cannot join`;
      case 'caught-up':
        this.#roundsDone = event.roundsDone;
        this.#last = event.heldOutLoss ?? this.#last;
        return caughtUp(event);
      case 'evaluation-fallback':
        return `! evaluation ${safeText(event.reason)}`;
      case 'paused':
        return `${event.nextRound === undefined ? 'paused' : pauseText(event.nextRound)}${detail(event.reason)}`;
      case 'resumed':
        return 'resumed';
      case 'finished':
        return finished(event, { rounds: this.#rounds, roundsDone: this.#roundsDone });
      default:
        return null;
    }
  }

  #countChanged({ changes }: Extract<JobEvent, { type: 'settings-changed' }>): void {
    const count = changes.find(({ key }) => key === 'rounds.count');
    if (count !== undefined && this.#rounds !== null) this.#rounds += count.after - count.before;
  }

  #checkpoint(event: Extract<JobEvent, { type: 'checkpoint' }>): string {
    const change =
      this.#last === null || event.heldOutLoss === null
        ? ''
        : ` (${formatChange(event.heldOutLoss - this.#last)})`;
    this.#last = event.heldOutLoss ?? this.#last;
    return [
      `round ${String(event.round).padStart(3)}`,
      `held-out loss ${formatLoss(event.heldOutLoss)}${change}`,
      `${countOf(event.updates, 'update')}, ${formatBytes(event.updateBytes)}`,
      `${event.bytesPerParameter.toFixed(3)} B/parameter`,
      `${formatCount(event.tokensPerSecond)} tokens/s`,
      formatDuration(event.seconds),
    ].join('  ');
  }

  #rolledBack({
    round,
    to,
    heldOutLoss,
    lossBefore,
    reason,
  }: Extract<JobEvent, { type: 'rolled-back' }>): string {
    this.#last = heldOutLoss ?? this.#last;
    const losses = lossBefore === null ? '' : `, before ${formatLoss(lossBefore)}`;
    return `round ${String(round).padStart(3)}  rolled back to round ${to}: held-out loss ${formatLoss(heldOutLoss)}${losses}${detail(reason)}`;
  }
}

function caughtUp({
  before,
  round,
  term,
  checkpoints,
  missing,
}: Extract<JobEvent, { type: 'caught-up' }>): string {
  const from =
    checkpoints === 0
      ? ''
      : `. Nodes had the signed records of ${countOf(checkpoints, 'missing checkpoint')}, and the weights of the newest one`;
  const lost =
    missing === 0
      ? ''
      : `. No connected node could give ${countOf(missing, 'other checkpoint')}; a node that connects later may still have ${missing === 1 ? 'it' : 'them'}`;
  const dropped =
    round < before
      ? `. The checkpoints of the database after round ${round} are dropped, because the later head does not continue from them`
      : '';
  return `! the database of the coordinator was old. It ended with round ${before}, but nodes had a later head, so the job continues after round ${round} (term ${term})${dropped}${from}${lost}`;
}

/** Returns the name of a node, if it has one, and the end of its peer id. */
export function nodeName({ name, peer }: { name: string; peer: string }): string {
  return name === '' ? shortPeer(peer) : `${safeText(name, { maxCharacters: 24 })} ${shortPeer(peer)}`;
}

function detail(text: string): string {
  return text === '' ? '' : `: ${safeText(text)}`;
}

/** @param options.rounds number of rounds of the job; null when unknown */
function finished(
  { round, heldOutLoss, baseLoss, stopReason }: Extract<JobEvent, { type: 'finished' }>,
  { rounds, roundsDone }: { rounds: number | null; roundsDone: number },
): string {
  const isShort = rounds !== null && roundsDone < rounds;
  // The events of older versions have no reason of the stop.
  const isStopped = stopReason !== undefined || isShort;
  const after = isShort ? ` after ${roundsDone} of ${countOf(rounds, 'round')}` : ' early';
  const why = stopReason ? ` (${safeText(stopReason)})` : '';
  const end = isStopped ? `stopped${after}${why}` : 'finished';
  if (heldOutLoss === null || baseLoss === null || round === 0) return end;
  const percent = ((heldOutLoss - baseLoss) / baseLoss) * 100;
  return `${end}: held-out loss ${formatLoss(heldOutLoss)}, ${formatChange(percent, 1)} % compared with the initial adapter (${formatLoss(baseLoss)})`;
}

/** Maximum number of figures in a line. */
const SHOWN_FIGURES = 4;

/** Returns the chosen metric of an evaluated checkpoint, or its first figures if no metric is chosen. */
function figuresText({
  metric,
  value,
  isBest,
  figures,
  scorer,
}: Extract<JobEvent, { type: 'tasks-evaluated' }>): string {
  const by = scorer === undefined ? '' : ` (evaluated by node ${shortPeer(scorer)})`;
  if (metric !== null && value !== null) {
    return `${safeText(figureName(metric))} ${formatFigure(value)}${isBest ? ', the best so far' : ''}${by}`;
  }
  const names = Object.keys(figures).filter((name) => !name.includes('_stderr,'));
  const shown = names
    .slice(0, SHOWN_FIGURES)
    .map((name) => `${safeText(figureName(name))} ${formatFigure(figures[name]!)}`);
  return `${[...shown, ...(names.length > SHOWN_FIGURES ? ['…'] : [])].join(', ')}${by}`;
}

/** Says what a scorer failed to do, and what the coordinator does instead. */
function scorerText({ peer, work, isWrong }: Extract<JobEvent, { type: 'scorer-failed' }>): string {
  const node = `node ${shortPeer(peer)}`;
  if (isWrong) return `${node} sent wrong figures, so the coordinator no longer asks it`;
  const what = work === 'tasks' ? 'evaluate the checkpoint' : 'compute the scores';
  return `${node} did not ${what}, so the coordinator does it`;
}

/** Returns the reason why a node is no longer present, as a text that follows the name of the node. */

export function lostBecause(reason: Extract<JobEvent, { type: 'peer-lost' }>['reason']): string {
  switch (reason) {
    case 'left':
      return 'left';
    case 'silent':
      return 'stopped sending heartbeats';
    case 'clock':
      return "does not count as present: its clock differs from the coordinator's by more than a minute";
    case 'revoked':
      return 'was removed: its invite was revoked';
    case 'banned':
      return 'was removed: it is banned';
  }
}
