/** Transitions for the orders of the operator: pause, stop, resume, roll-back, new settings. Also opens queued jobs. */

import { isEnding, isRollingBack, ROLLED_BACK } from './job-phase.ts';
import {
  close,
  discard,
  enoughPresent,
  gather,
  open,
  openRollBack,
  rest,
  stay,
  wait,
} from './round-cycle.ts';
import type { Ending, JobState, PauseCause, RollBackOrder, Transition } from './state.ts';

/**
 * Ends the round in progress and restores a checkpoint. A job that was paused is paused again afterwards. If a round is
 * being merged or committed, that round ends first. If that round restores a checkpoint itself, the new request is
 * ignored.
 */
export function rollBack(state: JobState, order: RollBackOrder, now: number): Transition {
  if (state.phase === 'validating' || state.phase === 'committing') {
    return stay(isRollingBack(state) ? state : { ...sooner(state, now), rollBack: order });
  }
  const { reason, pauseCause: cause } = state;
  const ending: Ending | null = cause === null ? null : { phase: 'paused', reason, cause };
  const next: JobState = { ...state, rollBack: order, ending, pauseCause: null };
  return state.current ? discard(next, ROLLED_BACK, false, now) : openRollBack(next, now);
}

/** Begins the next attempt to merge now, if one is due later, because an order waits for the end of the round. */
function sooner(state: JobState, now: number): JobState {
  return { ...state, retryAt: state.retryAt === null ? null : now };
}

/** Opens a queued job. Even if enough nodes are present, the job waits a little for more nodes before a round opens. */
export function unqueue(state: JobState, now: number): Transition {
  const waiting = wait(state);
  return { state: gather(waiting.state, now).state, effects: waiting.effects };
}

/** Changes the settings of a job: at the end of the round in progress, or at once if no round is in progress. */
export function changeSettings(state: JobState, settings: JobState['settings'], now: number): Transition {
  if (state.current) return stay({ ...state, nextSettings: settings });
  const changed: JobState = { ...state, settings };
  if (state.phase !== 'waiting') return stay(changed);
  // The job may need fewer nodes now. Announce the new number, and check whether enough nodes are present.
  const waiting = wait(changed);
  const next = gather({ ...waiting.state, gathering: state.gathering }, now);
  return { state: next.state, effects: [...waiting.effects, ...next.effects] };
}

/**
 * Pauses or stops the job. An open round closes with the updates that it has. If it has fewer than minPeers updates, it
 * becomes a null round. A round that is being merged or committed ends first.
 */
export function end(state: JobState, ending: Ending, now: number): Transition {
  if (state.phase === 'validating' || state.phase === 'committing')
    return stay({ ...sooner(state, now), ending });
  if (state.current && state.phase !== 'paused') {
    if (state.current.delivered.length >= state.settings.minPeers)
      return close({ ...state, ending }, 'operator');
    return discard(
      { ...state, ending, shortRounds: state.shortRounds + 1 },
      `the job was ${ending.phase === 'paused' ? 'paused' : 'stopped'}`,
      false,
      now,
    );
  }
  if (state.current) return discard({ ...state, ending }, 'the job was stopped', false, now);
  return rest(state, ending);
}

/**
 * Pauses the job like `end`. If the job has paused itself, a pause of the operator replaces the cause. If the job is
 * paused because the disk is full, every other cause replaces that pause, so that the job stays paused when there is
 * space again. A new reason of the operator replaces an earlier one. Otherwise a pause stays as it is.
 */
export function pause(
  state: JobState,
  { reason, cause }: { reason: string; cause: PauseCause },
  now: number,
): Transition {
  if (isEnding(state)) return stay(state);
  const ending: Ending = { phase: 'paused', reason, cause };
  if (state.phase !== 'paused') return end(state, ending, now);
  const isOther = cause !== state.pauseCause || (reason !== '' && reason !== state.reason);
  const isReplaced = cause === 'operator' || (state.pauseCause === 'disk-full' && cause !== 'disk-full');
  return isReplaced && isOther ? rest(state, ending) : stay(state);
}

export function resume(state: JobState, now: number): Transition {
  // A resume cancels a pause that has not taken effect yet. A stop cannot be cancelled.
  if (state.phase !== 'paused') return stay(isEnding(state) ? state : { ...state, ending: null });
  const next = { ...state, refusals: 0, shortRounds: 0, pauseCause: null, reason: '' };
  if (state.current) {
    return { state: { ...next, phase: 'validating' }, effects: [{ type: 'merge', round: state.round }] };
  }
  return enoughPresent(next) ? open(next, now) : wait(next);
}
