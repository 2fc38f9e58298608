/** Transitions that open, close and end rounds, and the phases of a job between two rounds. */

import { HEARTBEAT_INTERVAL_MS } from '../../protocol/limits.ts';
import { deadlineMs, type Round } from './close.ts';
import { REFUSALS_IN_A_ROW, reasonText } from './job-phase.ts';
import { isAssignable, planRound } from './plan.ts';
import {
  type CloseCause,
  type Effect,
  type Ending,
  type JobState,
  NO_ATTEMPTS,
  type Transition,
} from './state.ts';

/**
 * Time in milliseconds that a waiting job with enough nodes still waits after each arrival of a node, because more
 * nodes may follow. After this time, the job opens a round.
 */
export const GATHER_MS = HEARTBEAT_INTERVAL_MS;

/** Maximum time from the moment when enough nodes were present to the opening of the round. */
export const GATHER_MOST_MS = 3 * GATHER_MS;

export function stay(state: JobState): Transition {
  return { state, effects: [] };
}

export function gather(state: JobState, now: number): Transition {
  if (!enoughPresent(state)) return stay({ ...state, gathering: null });
  const gathering = state.gathering ?? gatherFrom(null, now);
  return now >= gathering.until && !state.isHeld ? open(state, now) : stay({ ...state, gathering });
}

export function gatherFrom(
  gathering: JobState['gathering'],
  now: number,
): NonNullable<JobState['gathering']> {
  const since = gathering?.since ?? now;
  return { since, until: Math.min(now + GATHER_MS, since + GATHER_MOST_MS) };
}

export function enoughPresent({ present, settings }: JobState): boolean {
  return Object.values(present).filter(isAssignable).length >= settings.minPeers;
}

export function open(state: JobState, now: number): Transition {
  const { settings, round } = state;
  const plan = planRound(state.present, round, settings);
  const longest = deadlineMs(round, state, settings, state.shortRounds);
  const current: Round = {
    number: round,
    openedAt: now,
    deadlineMs: longest,
    notBefore: now,
    assigned: plan.assignments.map(({ peer }) => peer),
    delivered: [],
    left: [],
    held: [],
    excluded: [],
    abandonedAt: null,
  };
  return {
    state: { ...state, phase: 'training', current, gathering: null, attempts: NO_ATTEMPTS, reason: '' },
    effects: [{ type: 'open', round, deadlineMs: longest, ...plan }],
  };
}

/**
 * Rolls back to a checkpoint: opens a round without nodes and closes it at once. The merge of this round
 * makes a checkpoint with the adapter of the restored checkpoint.
 */
export function openRollBack(state: JobState, now: number): Transition {
  const { round, settings } = state;
  const current: Round = {
    number: round,
    openedAt: now,
    deadlineMs: 0,
    notBefore: now,
    assigned: [],
    delivered: [],
    left: [],
    held: [],
    excluded: [],
    abandonedAt: null,
  };
  const preset = settings.preset === 'auto' ? 'dense' : settings.preset;
  const closed = close({ ...state, current, gathering: null, attempts: NO_ATTEMPTS, reason: '' }, 'operator');
  return {
    state: closed.state,
    effects: [{ type: 'open', round, deadlineMs: 0, preset, assignments: [] }, ...closed.effects],
  };
}

export function close(state: JobState, cause: CloseCause): Transition {
  const { round } = state;
  return {
    state: { ...state, phase: 'validating' },
    effects: [
      { type: 'close', round, cause },
      { type: 'merge', round },
    ],
  };
}

function discarding(round: number, reason: string, tried: boolean): Effect {
  return { type: 'discard', round, reason, tried };
}

export function discard(state: JobState, reason: string, tried: boolean, now: number): Transition {
  const next = proceed(state, now);
  return { state: next.state, effects: [discarding(state.round, reason, tried), ...next.effects] };
}

/** Decides what a job does after a round has ended with a checkpoint or as a null round. */
export function proceed(state: JobState, now: number): Transition {
  const settings = state.nextSettings ?? state.settings;
  const ended = { current: null, attempts: NO_ATTEMPTS, retryAt: null, ending: null, nextSettings: null };
  const done: JobState = { ...state, ...ended, settings };
  if (state.committed >= settings.count) return rest(done, { phase: 'finished', reason: '' });
  if (state.ending?.phase === 'finished') return rest(done, state.ending);
  const next: JobState = { ...done, round: state.round + 1 };
  if (state.rollBack !== null) return openRollBack({ ...next, ending: state.ending }, now);
  if (state.ending) return rest(next, state.ending);
  if (state.refusals >= REFUSALS_IN_A_ROW) {
    const reason = `in ${state.refusals} rounds in a row, no merge passed the gate, which checks the held-out loss; look for the cause in the data and the settings, then resume the job`;
    return rest(next, { phase: 'paused', reason, cause: 'problem' });
  }
  if (enoughPresent(next)) return open(next, now);
  return wait(next);
}

export function rest(state: JobState, ending: Ending): Transition {
  const { phase, reason } = ending;
  const pauseCause = ending.phase === 'paused' ? ending.cause : null;
  const next: JobState = { ...state, phase, gathering: null, pauseCause, reason };
  return { state: next, effects: [{ type: 'announce', phase, reason: reasonText(next) }] };
}

export function wait(state: JobState): Transition {
  const reason = waitingReason(state.settings);
  return {
    state: { ...state, phase: 'waiting', gathering: null, reason },
    effects: [{ type: 'announce', phase: 'waiting', reason }],
  };
}

/** Returns a text for people that says why the job is waiting. */
export function waitingReason({ minPeers }: { readonly minPeers: number }): string {
  return minPeers === 1 ? 'the job needs a node' : `the job needs ${minPeers} nodes`;
}
