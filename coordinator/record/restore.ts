import type { Clock } from '../../common/clock.ts';
import type { Head } from '../../protocol/messages.ts';
import { ARRIVAL_ROUNDS, RECOVERY_MS, type Round } from '../round/close.ts';
import { initialState, type JobState, type MachineSettings } from '../round/state.ts';
import type { Store, StoredJob } from '../store/store.ts';

/**
 * The state of a job as its record says: the same round with the same assignments, every recorded update counted once. A
 * closed round without an outcome is taken up again where it was closed.
 * @param head the newest recorded one
 */
export function restoreState(
  { job, ending }: StoredJob,
  head: Head,
  settings: MachineSettings,
  store: Store,
  clock: Clock,
): JobState {
  const now = clock.monotonic();
  const newest = store.rounds.newest(job, ARRIVAL_ROUNDS + 1);
  const speeds = new Map(store.peers.all(job).map(({ peer, speed }) => [peer, speed]));
  const arrivals = newest.flatMap(({ round, openedAt }) =>
    store.updates
      .ofRounds(job, round, round)
      .map((update) => ({ round, ms: Math.max(1, update.arrivedAt - openedAt) })),
  );
  const base: JobState = {
    ...initialState(settings),
    round: head.round,
    committed: store.rounds.count(job, 'checkpoint'),
    refusals: store.rounds.refusals(job),
    shortRounds: store.rounds.shortRounds(job),
    arrivals,
    ending,
    reason: head.reason,
  };
  const unsettled = newest[0]?.outcome === null ? newest[0] : null;
  if (!unsettled) return { ...base, phase: head.phase === 'training' ? 'waiting' : head.phase };

  const delivered = store.updates
    .ofRounds(job, unsettled.round, unsettled.round)
    .filter(({ late }) => !late)
    .map(({ peer }) => peer);
  const current: Round = {
    number: unsettled.round,
    openedAt: now - Math.max(0, clock.now() - unsettled.openedAt),
    deadlineMs: unsettled.deadlineMs,
    notBefore: now + RECOVERY_MS,
    assigned: unsettled.assignments.map(({ peer }) => peer),
    delivered,
    left: [],
    abandonedAt: null,
  };
  if (unsettled.closedAt !== null) {
    return { ...base, phase: head.phase === 'paused' ? 'paused' : 'validating', current };
  }
  // Its nodes are still at work, as far as anybody knows; the presence check finds out who is not.
  const present = Object.fromEntries(current.assigned.map((peer) => [peer, speeds.get(peer) ?? 0]));
  return { ...base, phase: delivered.length > 0 ? 'collecting' : 'training', current, present };
}
