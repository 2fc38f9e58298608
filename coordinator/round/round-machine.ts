import { judgeRound } from './close.ts';
import { hasPendingOrder, isOpen, isOver, isRollingBack, ROLLED_BACK } from './job-phase.ts';
import { changeSettings, end, pause, resume, rollBack, unqueue } from './operator-events.ts';
import { isAssignable } from './plan.ts';
import { close, discard, gather, gatherFrom, proceed, rest, stay } from './round-cycle.ts';
import { afterLeaving, delivered, exclude, judge, withoutPeer } from './round-peers.ts';
import { type JobState, type MachineEvent, NO_ATTEMPTS, type Transition } from './state.ts';

/**
 * Number of attempts to merge or commit before the job pauses itself. A single failure can be temporary, for example
 * when an evaluation runs out of memory.
 */
export const MERGE_ATTEMPTS = 3;

/**
 * Number of attempts at a merge that needs a lost blob before the job pauses itself. They take at least 26 minutes. In this
 * time, a node that has the blob can start again and connect.
 */
export const LOST_BLOB_ATTEMPTS = 30;

/** Delay before the second attempt to merge or commit. The delay doubles with each further attempt. */
export const RETRY_MS = 2_000;

/** Maximum delay between two attempts. A missing blob is looked for again after this time (`BlobRepair`). */
const MAX_RETRY_MS = 60_000;

/** Events that change the state of a job during its hold (see `JobState.isHeld`). All other events are then ignored. */
const DURING_HOLD: readonly MachineEvent['type'][] = [
  'peer-ready',
  'peer-gone',
  'peers-removed',
  'judged',
  'gave-up',
  'update',
  'excluded',
  'released',
];

/** Returns the time at which the next `tick` is due; null if only other events can change the state. */
export function dueAt(state: JobState, now: number): number | null {
  if (state.isHeld) return null;
  if (state.phase === 'waiting') return state.gathering?.until ?? null;
  if (state.phase === 'validating' || state.phase === 'committing') return state.retryAt;
  if (!isOpen(state)) return null;
  const judged = judgeRound(state.current!, state, state.settings, now);
  return judged.verdict === 'wait' ? judged.at : now;
}

/**
 * Returns the next state, and the effects that belong to the transition.
 * @param now milliseconds on the monotonic clock
 */
export function reduce(state: JobState, event: MachineEvent, now: number): Transition {
  if (isOver(state) || (state.isHeld && !DURING_HOLD.includes(event.type))) return stay(state);
  switch (event.type) {
    case 'peer-ready': {
      const { peer, speed, shares, standing } = event;
      const { current, gathering } = state;
      const ready = { speed, shares, standing };
      const isNew = !Object.hasOwn(state.present, peer) && isAssignable(ready);
      return advance(
        {
          ...state,
          present: { ...state.present, [peer]: ready },
          current: current && { ...current, left: current.left.filter((other) => other !== peer) },
          gathering: isNew ? gatherFrom(gathering, now) : gathering,
        },
        now,
      );
    }
    case 'peer-gone': {
      const { [event.peer]: _, ...present } = state.present;
      return advance({ ...state, present, current: afterLeaving(state.current, event) }, now);
    }
    case 'peers-removed': {
      const removed = new Set(event.peers);
      const left = Object.entries(state.present).filter(([peer]) => !removed.has(peer));
      const next: JobState = { ...state, present: Object.fromEntries(left) };
      const { round } = state;
      return advance(
        event.peers.reduce((before, peer) => exclude(before, { peer, round }), next),
        now,
      );
    }
    case 'judged':
      return advance({ ...state, present: judge(state.present, event.peers) }, now);
    case 'gave-up':
      if (state.current?.number !== event.round) return stay(state);
      return advance({ ...state, current: withoutPeer(state.current, event.peer) }, now);
    case 'update':
      return advance(delivered(state, event), now);
    case 'excluded':
      return advance(exclude(state, event), now);
    case 'merged':
      if (state.phase !== 'validating') return stay(state);
      return { state: { ...state, phase: 'committing' }, effects: [{ type: 'commit', round: state.round }] };
    case 'refused':
      if (state.phase !== 'validating') return stay(state);
      if (isRollingBack(state)) return discard({ ...state, rollBack: null }, event.reason, false, now);
      return discard({ ...state, refusals: state.refusals + 1, shortRounds: 0 }, event.reason, true, now);
    case 'committed': {
      if (state.phase !== 'committing') return stay(state);
      const order = isRollingBack(state) ? null : state.rollBack;
      const committed = state.committed + 1;
      return proceed({ ...state, committed, rollBack: order, refusals: 0, shortRounds: 0 }, now);
    }
    case 'attempt-failed':
      return attemptFailed(state, event, now);
    case 'pause':
      return pause(state, event, now);
    case 'stop':
      return end(state, { phase: 'finished', reason: event.reason }, now);
    case 'resume':
      return resume(state, now);
    case 'unqueue':
      return state.phase === 'queued' ? unqueue(state, now) : stay(state);
    case 'settings':
      return changeSettings(state, event.settings, now);
    case 'roll-back':
      return rollBack(state, { to: event.to, reason: event.reason }, now);
    case 'released':
      return release(state, now);
    case 'tick':
      if (state.retryAt !== null && now >= state.retryAt) {
        const again: JobState = { ...state, phase: 'validating', retryAt: null };
        return { state: again, effects: [{ type: 'merge', round: state.round }] };
      }
      return advance(state, now);
  }
}

/** Opens a round when nodes have gathered, and closes one when `judgeRound` decides so. */
function advance(state: JobState, now: number): Transition {
  if (state.phase === 'waiting') return gather(state, now);
  if (!isOpen(state) || state.isHeld) return stay(state);
  const round = state.current!;
  const judged = judgeRound(round, state, state.settings, now);
  if (judged.verdict === 'close') return close(state, judged.cause);
  if (judged.verdict === 'null') {
    return discard({ ...state, shortRounds: state.shortRounds + 1 }, judged.reason, false, now);
  }
  return stay({ ...state, current: { ...round, abandonedAt: judged.abandonedAt } });
}

/** Ends the hold of a job. A closed round is merged now, and an open round closes now if the rules allow it. */
function release(state: JobState, now: number): Transition {
  if (!state.isHeld) return stay(state);
  const free: JobState = { ...state, isHeld: false };
  if (free.phase !== 'validating') return advance(free, now);
  return { state: free, effects: [{ type: 'merge', round: free.round }] };
}

function attemptFailed(
  state: JobState,
  { reason, cause, mayRecover = false }: Extract<MachineEvent, { type: 'attempt-failed' }>,
  now: number,
): Transition {
  if (state.phase !== 'validating' && state.phase !== 'committing') return stay(state);
  const failed = mayRecover ? 'lost' : 'other';
  const attempts = state.attempts[failed] + 1;
  // An order of the operator must not wait until a missing blob is found.
  const isAwaited = hasPendingOrder(state);
  const counted = isAwaited ? state.attempts.lost + state.attempts.other + 1 : attempts;
  if (counted >= (mayRecover && !isAwaited ? LOST_BLOB_ATTEMPTS : MERGE_ATTEMPTS)) {
    if (state.ending?.phase === 'finished') return discard(state, reason, false, now);
    if (state.rollBack !== null && !isRollingBack(state)) return discard(state, ROLLED_BACK, false, now);
    // Keep the closed round, so that the job merges its updates again when the operator resumes the job.
    const kept: JobState = { ...state, attempts: NO_ATTEMPTS, retryAt: null, ending: null };
    // A waiting pause takes effect even if the disk is full. If the pause were lost, the job would continue
    // as soon as there is space.
    const waiting = cause === 'disk-full' ? state.ending : null;
    const why = mayRecover ? lostReason(reason, state.round, attempts) : reason;
    return rest(kept, waiting ?? { phase: 'paused', reason: why, cause });
  }
  const delayMs = Math.min(MAX_RETRY_MS, RETRY_MS * 2 ** (attempts - 1));
  return stay({
    ...state,
    attempts: { ...state.attempts, [failed]: attempts },
    retryAt: now + delayMs,
    ...(mayRecover && { reason }),
  });
}

/** Returns a text for people that says why the job has paused itself, and what its operator can do. */
function lostReason(reason: string, round: number, attempts: number): string {
  return `round ${round} could not be merged in ${attempts} attempts, because a file is lost and no connected node has it; connect a node that has it, or restore the file from a backup, then resume the job (${reason})`;
}
