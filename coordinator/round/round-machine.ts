import { HEARTBEAT_INTERVAL_MS } from '../../protocol/limits.ts';
import { ARRIVAL_ROUNDS, deadlineMs, judgeRound, type Round } from './close.ts';
import { isAssignable, planRound } from './plan.ts';
import type { CloseCause, Effect, Ending, JobState, MachineEvent, Transition } from './state.ts';

/**
 * Time in milliseconds that a waiting job with enough nodes still waits after each arrival of a node, because more
 * nodes may follow. Then the job opens a round.
 */
export const GATHER_MS = HEARTBEAT_INTERVAL_MS;
/** Maximum time from the moment when enough nodes were present to the opening of the round. */
export const GATHER_MOST_MS = 3 * GATHER_MS;
/**
 * Number of attempts to merge or commit before the job pauses itself. A single failure can be temporary, for example
 * when an evaluation runs out of memory.
 */
export const MERGE_ATTEMPTS = 3;
/** Delay before the second attempt to merge or commit. The delay doubles with each further attempt. */
export const RETRY_MS = 2_000;
/**
 * After this number of consecutive rounds whose merge the gate refused, the job pauses itself. After so many
 * refusals, the cause is probably in the data or the settings, and the operator must look for it.
 */
export const REFUSALS_IN_A_ROW = 5;

/** Returns the time at which the next `tick` is due; null if only other events can change the state. */
export function dueAt(state: JobState, now: number): number | null {
  if (state.phase === 'waiting') return state.gathering?.until ?? null;
  if (state.phase === 'validating' || state.phase === 'committing') return state.retryAt;
  if (!isOpen(state)) return null;
  const judged = judgeRound(state.current!, state, state.settings, now);
  return judged.verdict === 'wait' ? judged.at : now;
}

/** Returns whether a round is open for updates. */
export function isOpen(state: JobState): boolean {
  return state.phase === 'training' || state.phase === 'collecting';
}

/** Returns whether the job paused itself and waits for its operator. Returns false if the operator paused it. */
export function needsOperator({ phase, current, refusals }: JobState): boolean {
  return phase === 'paused' && (current !== null || refusals >= REFUSALS_IN_A_ROW);
}

export function isOver(state: JobState): boolean {
  return state.phase === 'finished';
}

/** Returns whether the operator stopped the job while its round was closed, so that the job ends with this round. */
export function isEnding({ ending }: JobState): boolean {
  return ending?.phase === 'finished';
}

/** Returns whether the round in progress only restores a checkpoint for the operator. Such a round has no nodes. */
export function isRollingBack({ rollBackTo, current }: JobState): boolean {
  return rollBackTo !== null && current !== null && current.assigned.length === 0;
}

/** Returns the next state, and the effects that belong to the transition. @param now on the monotonic clock, ms */
export function reduce(state: JobState, event: MachineEvent, now: number): Transition {
  if (isOver(state)) return stay(state);
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
      if (isRollingBack(state)) return discard({ ...state, rollBackTo: null }, event.reason, false, now);
      return discard({ ...state, refusals: state.refusals + 1, shortRounds: 0 }, event.reason, true, now);
    case 'committed': {
      if (state.phase !== 'committing') return stay(state);
      const rollBackTo = isRollingBack(state) ? null : state.rollBackTo;
      const committed = state.committed + 1;
      return proceed({ ...state, committed, rollBackTo, refusals: 0, shortRounds: 0 }, now);
    }
    case 'attempt-failed':
      return attemptFailed(state, event.reason, now);
    case 'pause':
      if (state.phase === 'paused' || isEnding(state)) return stay(state);
      return end(state, { phase: 'paused', reason: event.reason }, now);
    case 'stop':
      return end(state, { phase: 'finished', reason: event.reason }, now);
    case 'resume':
      return resume(state, now);
    case 'unqueue':
      return state.phase === 'queued' ? unqueue(state, now) : stay(state);
    case 'settings':
      return changeSettings(state, event.settings, now);
    case 'roll-back':
      return rollBack(state, event.to, now);
    case 'tick':
      if (state.retryAt !== null && now >= state.retryAt) {
        const again: JobState = { ...state, phase: 'validating', retryAt: null };
        return { state: again, effects: [{ type: 'merge', round: state.round }] };
      }
      return advance(state, now);
  }
}

function stay(state: JobState): Transition {
  return { state, effects: [] };
}

/** Opens a round when nodes have gathered, and closes one when `judgeRound` decides so. */
function advance(state: JobState, now: number): Transition {
  if (state.phase === 'waiting') return gather(state, now);
  if (!isOpen(state)) return stay(state);
  const round = state.current!;
  const judged = judgeRound(round, state, state.settings, now);
  if (judged.verdict === 'close') return close(state, judged.cause);
  if (judged.verdict === 'null') {
    return discard({ ...state, shortRounds: state.shortRounds + 1 }, judged.reason, false, now);
  }
  return stay({ ...state, current: { ...round, abandonedAt: judged.abandonedAt } });
}

function gather(state: JobState, now: number): Transition {
  if (!enoughPresent(state)) return stay({ ...state, gathering: null });
  const gathering = state.gathering ?? gatherFrom(null, now);
  return now >= gathering.until ? open(state, now) : stay({ ...state, gathering });
}

function gatherFrom(gathering: JobState['gathering'], now: number): NonNullable<JobState['gathering']> {
  const since = gathering?.since ?? now;
  return { since, until: Math.min(now + GATHER_MS, since + GATHER_MOST_MS) };
}

function enoughPresent({ present, settings }: JobState): boolean {
  return Object.values(present).filter(isAssignable).length >= settings.minPeers;
}

function open(state: JobState, now: number): Transition {
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
    state: { ...state, phase: 'training', current, gathering: null, attempts: 0, reason: '' },
    effects: [{ type: 'open', round, deadlineMs: longest, ...plan }],
  };
}

/**
 * Rolls back to a checkpoint: opens a round without nodes and closes it at once. The merge of this round
 * makes a checkpoint with the adapter of the restored checkpoint.
 */
function openRollBack(state: JobState, now: number): Transition {
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
  const closed = close({ ...state, current, gathering: null, attempts: 0, reason: '' }, 'operator');
  return {
    state: closed.state,
    effects: [{ type: 'open', round, deadlineMs: 0, preset, assignments: [] }, ...closed.effects],
  };
}

/**
 * Ends the round in progress and restores a checkpoint. A job that was paused is paused again afterwards. If a round is
 * being merged or committed, that round ends first. If that round restores a checkpoint itself, the new request is
 * ignored.
 */
function rollBack(state: JobState, to: number, now: number): Transition {
  if (state.phase === 'validating' || state.phase === 'committing') {
    return stay(isRollingBack(state) ? state : { ...state, rollBackTo: to });
  }
  const ending: Ending | null = state.phase === 'paused' ? { phase: 'paused', reason: state.reason } : null;
  const next: JobState = { ...state, rollBackTo: to, ending };
  return state.current ? discard(next, 'the operator rolled back', false, now) : openRollBack(next, now);
}

function delivered(state: JobState, event: Extract<MachineEvent, { type: 'update' }>): JobState {
  const { peer, round, ms, speed } = event;
  const known = Object.hasOwn(state.present, peer) ? state.present[peer]! : null;
  const present = known ? { ...state.present, [peer]: { ...known, speed } } : state.present;
  const arrivals = [...state.arrivals, { peer, round, ms }].filter(
    (arrival) => arrival.round >= state.round - ARRIVAL_ROUNDS,
  );
  const next = { ...state, present, arrivals };
  const { current } = state;
  // A late update still measures the speed of its node. It is merged with the next round that closes.
  if (!isOpen(state) || current?.number !== round || !current.assigned.includes(peer)) return next;
  if (current.delivered.includes(peer)) return next;
  return { ...next, phase: 'collecting', current: { ...current, delivered: [...current.delivered, peer] } };
}

function judge(
  present: JobState['present'],
  judged: Extract<MachineEvent, { type: 'judged' }>['peers'],
): JobState['present'] {
  const changed = Object.keys(judged).filter((peer) => Object.hasOwn(present, peer));
  const entries = changed.map((peer) => [peer, { ...present[peer]!, ...judged[peer] }] as const);
  return { ...present, ...Object.fromEntries(entries) };
}

function afterLeaving(
  round: Round | null,
  { peer, reason }: Extract<MachineEvent, { type: 'peer-gone' }>,
): Round | null {
  if (reason === 'left') return withoutPeer(round, peer);
  if (round === null || reason === 'silent') return round;
  if (!round.assigned.includes(peer) || round.delivered.includes(peer) || round.held.includes(peer))
    return round;
  return { ...round, held: [...round.held, peer] };
}

function withoutPeer(round: Round | null, peer: string): Round | null {
  if (!round?.assigned.includes(peer) || round.delivered.includes(peer) || round.left.includes(peer))
    return round;
  return { ...round, left: [...round.left, peer] };
}

function exclude(state: JobState, { peer, round }: { peer: string; round: number }): JobState {
  const { current } = state;
  if (!isOpen(state) || current?.number !== round || !current.assigned.includes(peer)) return state;
  const delivered = current.delivered.filter((other) => other !== peer);
  return {
    ...state,
    phase: delivered.length > 0 ? 'collecting' : 'training',
    current: { ...current, delivered, excluded: [...current.excluded, peer] },
  };
}

function close(state: JobState, cause: CloseCause): Transition {
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

function discard(state: JobState, reason: string, tried: boolean, now: number): Transition {
  const next = proceed(state, now);
  return { state: next.state, effects: [discarding(state.round, reason, tried), ...next.effects] };
}

/** Continues after a committed checkpoint or a null round. */
function proceed(state: JobState, now: number): Transition {
  const settings = state.nextSettings ?? state.settings;
  const ended = { current: null, attempts: 0, retryAt: null, ending: null, nextSettings: null };
  const done: JobState = { ...state, ...ended, settings };
  if (state.committed >= settings.count) return rest(done, { phase: 'finished', reason: '' });
  if (state.ending?.phase === 'finished') return rest(done, state.ending);
  const next: JobState = { ...done, round: state.round + 1 };
  if (state.rollBackTo !== null) return openRollBack({ ...next, ending: state.ending }, now);
  if (state.ending) return rest(next, state.ending);
  if (state.refusals >= REFUSALS_IN_A_ROW) {
    const reason = `the held-out check refused ${state.refusals} rounds in a row; look for the cause in data and settings, then resume`;
    return rest(next, { phase: 'paused', reason });
  }
  if (enoughPresent(next)) return open(next, now);
  return wait(next);
}

function rest(state: JobState, { phase, reason }: Ending): Transition {
  return {
    state: { ...state, phase, gathering: null, reason },
    effects: [{ type: 'announce', phase, reason }],
  };
}

function wait(state: JobState): Transition {
  const reason = waitingReason(state.settings);
  return {
    state: { ...state, phase: 'waiting', gathering: null, reason },
    effects: [{ type: 'announce', phase: 'waiting', reason }],
  };
}

/** Opens a queued job. Even if enough nodes are present, the job waits a little for more nodes before a round opens. */
function unqueue(state: JobState, now: number): Transition {
  const waiting = wait(state);
  return { state: gather(waiting.state, now).state, effects: waiting.effects };
}

/** Changes the settings of a job: at the end of the round in progress, or at once if no round is in progress. */
function changeSettings(state: JobState, settings: JobState['settings'], now: number): Transition {
  if (state.current) return stay({ ...state, nextSettings: settings });
  const changed: JobState = { ...state, settings };
  if (state.phase !== 'waiting') return stay(changed);
  // The job may need fewer nodes now. Announce the new number, and check whether enough nodes are present.
  const waiting = wait(changed);
  const next = gather({ ...waiting.state, gathering: state.gathering }, now);
  return { state: next.state, effects: [...waiting.effects, ...next.effects] };
}

/** Returns a text for people that says why the job is waiting. */
export function waitingReason({ minPeers }: { readonly minPeers: number }): string {
  return minPeers === 1 ? 'it needs a node' : `it needs ${minPeers} nodes`;
}

function attemptFailed(state: JobState, reason: string, now: number): Transition {
  if (state.phase !== 'validating' && state.phase !== 'committing') return stay(state);
  const attempts = state.attempts + 1;
  if (attempts >= MERGE_ATTEMPTS) {
    if (state.ending?.phase === 'finished') return discard(state, reason, false, now);
    // Keep the closed round, so that the job merges its updates again when the operator resumes the job.
    return rest({ ...state, attempts: 0, retryAt: null, ending: null }, { phase: 'paused', reason });
  }
  return stay({ ...state, attempts, retryAt: now + RETRY_MS * 2 ** (attempts - 1) });
}

/**
 * Pauses or stops the job. An open round closes with the updates that it has. If it has fewer than minPeers updates, it
 * becomes a null round. A round that is being merged or committed ends first.
 */
function end(state: JobState, ending: Ending, now: number): Transition {
  if (state.phase === 'validating' || state.phase === 'committing') return stay({ ...state, ending });
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

function resume(state: JobState, now: number): Transition {
  // A resume cancels a pause that has not taken effect yet. A stop cannot be cancelled.
  if (state.phase !== 'paused') return stay(isEnding(state) ? state : { ...state, ending: null });
  const next = { ...state, refusals: 0, shortRounds: 0, reason: '' };
  if (state.current) {
    return { state: { ...next, phase: 'validating' }, effects: [{ type: 'merge', round: state.round }] };
  }
  return enoughPresent(next) ? open(next, now) : wait(next);
}
