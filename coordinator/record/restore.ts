import type { Manifest } from '../../protocol/job/manifest.ts';
import type { RunningSettings } from '../../protocol/job/settings.ts';
import type { Head } from '../../protocol/messages.ts';
import type { RunContext } from '../context.ts';
import { presentPeer } from '../peers/present-peer.ts';
import { ARRIVAL_ROUNDS, RECOVERY_MS, type Round } from '../round/close.ts';
import { REFUSALS_IN_A_ROW } from '../round/job-phase.ts';
import {
  type Ending,
  initialState,
  type JobState,
  type MachineSettings,
  type PauseCause,
} from '../round/state.ts';
import type { StoredEnding } from '../store/jobs.ts';

/**
 * Rebuilds a job's state from the store after a restart. The round in progress continues with the same assignments, and
 * every recorded update counts once. If the round is closed but has no outcome, its merge starts again, unless the job
 * is paused.
 * @param head the newest recorded head
 */
export function restoreState(context: RunContext, head: Head): JobState {
  const { job, stored, manifest, settings, deps } = context;
  const { store, clock } = deps;
  const now = clock.monotonic();
  const newest = store.rounds.newest(job, ARRIVAL_ROUNDS + 1);
  const speeds = new Map(store.peers.all(job).map(({ peer, speed }) => [peer, speed]));
  const arrivals = newest.flatMap(({ round, openedAt }) =>
    store.updates
      .ofRounds(job, round, round)
      .map(({ peer, arrivedAt }) => ({ peer, round, ms: Math.max(1, arrivedAt - openedAt) })),
  );
  const base: JobState = {
    ...initialState(machineSettings(manifest, settings.newest)),
    round: head.round,
    committed: store.rounds.count(job, 'checkpoint'),
    refusals: store.rounds.refusals(job),
    shortRounds: store.rounds.shortRounds(job),
    arrivals,
    ending: stored.ending && withCause(stored.ending),
    rollBack:
      stored.rollBackTo === null ? null : { to: stored.rollBackTo, reason: stored.rollBackReason ?? '' },
    // In the head of an open round, the reason tells why the round began with a restored checkpoint. It does not
    // explain the phase of the job.
    reason: head.phase === 'training' ? '' : head.reason,
  };
  if (stored.afterJob !== null && head.phase === 'waiting') return { ...base, phase: 'queued' };
  const unfinished = newest[0]?.outcome === null ? newest[0] : null;
  const isPaused = head.phase === 'paused';
  const pauseCause = isPaused ? (stored.pauseCause ?? oldPauseCause(base, unfinished !== null)) : null;
  if (!unfinished) return { ...base, phase: restingPhase(head), pauseCause };

  const running = machineSettings(manifest, settings.at(unfinished.round));
  const isChanged = settings.recordAt(unfinished.round) !== settings.newestRecord;
  const inRound = { settings: running, nextSettings: isChanged ? base.settings : null };
  const delivered = store.updates
    .ofRounds(job, unfinished.round, unfinished.round)
    .filter(({ late }) => !late)
    .map(({ peer }) => peer);
  const assigned = unfinished.assignments.map(({ peer }) => peer);
  // Assigned nodes are not evicted during a round. Therefore an assigned node that is no longer a member was removed.
  const removed = assigned.filter((peer) => !speeds.has(peer));
  const current: Round = {
    number: unfinished.round,
    openedAt: now - Math.max(0, clock.now() - unfinished.openedAt),
    deadlineMs: unfinished.deadlineMs,
    notBefore: now + RECOVERY_MS,
    assigned,
    delivered,
    left: [],
    held: [],
    excluded: [...new Set([...store.conflicts.peersOf(job, unfinished.round), ...removed])],
    abandonedAt: null,
  };
  if (unfinished.closedAt !== null) {
    return { ...base, ...inRound, phase: isPaused ? 'paused' : 'validating', pauseCause, current };
  }
  // Assume that the round's nodes are still training. Nodes that are gone send no heartbeats, and count as silent
  // later.
  const members = assigned.filter((peer) => speeds.has(peer));
  const present = Object.fromEntries(
    members.map((peer) => [peer, presentPeer({ job, deps }, { peer, speed: speeds.get(peer)! })]),
  );
  return { ...base, ...inRound, phase: delivered.length > 0 ? 'collecting' : 'training', current, present };
}

/**
 * Adds the cause of a pause that an older version stored without a cause. The cause is `operator` if it is unknown,
 * because the operator ordered most pauses that wait for the end of a round.
 */
function withCause(ending: StoredEnding): Ending {
  if (ending.phase !== 'paused') return ending;
  return { ...ending, cause: ending.cause ?? (isDiskFull(ending) ? 'disk-full' : 'operator') };
}

/** Returns the probable cause of a pause whose cause is not in the database. */
function oldPauseCause(state: JobState, hasClosedRound: boolean): PauseCause {
  const { refusals } = state;
  if (isDiskFull(state)) return 'disk-full';
  return hasClosedRound || refusals >= REFUSALS_IN_A_ROW ? 'problem' : 'operator';
}

/** Returns whether an older version gave this reason for a pause because of a full disk. */
function isDiskFull({ reason }: { readonly reason: string }): boolean {
  return (
    reason.startsWith('the disk of the coordinator is full') || reason.includes('no space left to write')
  );
}

/** Returns the phase of a job that has no round in progress. */
function restingPhase({ phase }: Head): JobState['phase'] {
  if (phase === 'training') return 'waiting';
  // The phase `failed` counts as finished. The protocol has this phase, but no coordinator has ever recorded
  // it.
  return phase === 'failed' ? 'finished' : phase;
}

/** Returns the settings of the state machine, from the manifest and the settings that may change while the job runs. */
export function machineSettings(
  { rounds, training }: Manifest,
  { count, minPeers, maxSeconds }: RunningSettings,
): MachineSettings {
  const { localSteps, quorum, preset } = rounds;
  return { count, localSteps, minPeers, quorum, maxSeconds, preset, batchSize: training.batchSize };
}
