import type { JobPhase } from '../../protocol/api/coordinator.ts';
import type { Arrival, ClosingSettings, Round } from './close.ts';
import type { PlanSettings, PresentPeer, RoundPlan } from './plan.ts';

/** Numbers of failed attempts to merge or commit a round. Each kind of failure has its own limit. */
interface Attempts {
  /** Attempts that failed because a blob is lost that a node may bring. */
  readonly lost: number;
  /** Attempts that failed for any other reason. */
  readonly other: number;
}

export const NO_ATTEMPTS: Attempts = { lost: 0, other: 0 };

/**
 * The state of one job. `reduce` in round-machine.ts is a pure function from a state and an event to the next state:
 *
 *   waiting → training → collecting → validating → committing → training …      paused · finished
 *
 * queued      the job waits until another job has ended
 * waiting     fewer than minPeers nodes are present, or the job still waits for more nodes to arrive
 * training    a round is open; no update has arrived
 * collecting  a round is open; an update has arrived
 * validating  the round is closed; its updates are being merged and checked on held-out data
 * committing  a merge has passed the gate; its checkpoint is being made durable
 *
 * After every commit and every null round, `proceed` (round-cycle.ts) opens the next round or announces why there is
 * none. The caller of `reduce` saves the effects together with the new state, carries them out, and reports their results
 * as events.
 */
export interface JobState {
  readonly settings: MachineSettings;
  /** Settings that the operator has changed. They apply after the round in progress; null if there is no change. */
  readonly nextSettings: MachineSettings | null;
  readonly phase: JobPhase;
  /** The round in progress, the next one to open, or the last one of a job that is over. */
  readonly round: number;
  /**
   * The round that has opened and has not yet ended with a checkpoint or as a null round; null if there is none. In a
   * paused job, it is a closed round that could not be merged or committed.
   */
  readonly current: Round | null;
  /** Number of committed checkpoints, without the initial one. */
  readonly committed: number;
  /** Number of rounds in a row whose merge the gate refused, counted since the last resume. */
  readonly refusals: number;
  /**
   * Number of rounds in a row that ended with too few updates, counted since the last resume. Each such round doubles
   * the maximum duration of the next round. A round that a pause ended early counts too. That does no harm, because the
   * next resume resets the number.
   */
  readonly shortRounds: number;
  /** Peers that are ready to train, by peer id, with the facts that decide how much work they get in the next round. */
  readonly present: Readonly<Record<string, PresentPeer>>;
  readonly arrivals: readonly Arrival[];
  /**
   * Set while enough peers are present to open a round, but the job waits for more of them; otherwise null. `since`:
   * time at which the wait began. `until`: time at which the wait ends.
   */
  readonly gathering: { readonly since: number; readonly until: number } | null;
  /** Failed attempts to merge or commit the closed round. */
  readonly attempts: Attempts;
  /** Time at which the next attempt to merge is due; null if none is due. */
  readonly retryAt: number | null;
  /** A pause or stop that takes effect when the closed round has ended; null if there is none. */
  readonly ending: Ending | null;
  /** Why the job is paused; null if it is not paused. */
  readonly pauseCause: PauseCause | null;
  /**
   * The checkpoint that the operator wants to restore; null if there is no such request. The job restores the checkpoint in
   * a round without nodes, as soon as no other round is being merged or committed.
   */
  readonly rollBack: RollBackOrder | null;
  /**
   * Whether the job waits for its nodes, because the coordinator has restarted (see `StartHolds`). The job then records
   * what peers do, but opens, closes and merges no round.
   */
  readonly isHeld: boolean;
  readonly reason: string;
}

export type MachineSettings = ClosingSettings &
  PlanSettings & {
    /** Number of checkpoints after which the job is finished. */
    readonly count: number;
  };

/**
 * Why a job is paused. `operator`: its operator ordered the pause. `problem`: the coordinator paused the job because of
 * a problem that the operator must solve. `disk-full`: the coordinator paused the job because its disk is full, and
 * continues the job when there is space. Every other pause replaces a pause with the cause `disk-full`, and a pause of
 * the operator replaces every pause of the coordinator.
 */
export type PauseCause = 'operator' | 'problem' | 'disk-full';

/** An order of the operator to restore a checkpoint. */
export interface RollBackOrder {
  /** Round of the checkpoint. */
  readonly to: number;
  /** Reason that the operator gave; empty if there is none. */
  readonly reason: string;
}

export type Ending =
  | { readonly phase: 'paused'; readonly reason: string; readonly cause: PauseCause }
  | { readonly phase: 'finished'; readonly reason: string };

export type MachineEvent =
  /** A peer became ready to train, perhaps again. */
  | ({ type: 'peer-ready'; peer: string } & PresentPeer)
  /** `held`: the peer is still there, but takes no work for now. */
  | { type: 'peer-gone'; peer: string; reason: 'left' | 'silent' | 'held' }
  /** Peers were removed from the job permanently. If a round is open, their updates of that round do not count. */
  | { type: 'peers-removed'; peers: readonly string[] }
  /** A peer has lost its work of this round, but is still present. */
  | { type: 'gave-up'; peer: string; round: number }
  /** The shares or the standing of peers have changed. Peers that are not present are ignored. */
  | { type: 'judged'; peers: Readonly<Record<string, Partial<Pick<PresentPeer, 'shares' | 'standing'>>>> }
  /** An update was recorded. `ms`: time since its round opened; `speed`: the author's speed now (round/speed.ts). */
  | { type: 'update'; peer: string; round: number; ms: number; speed: number }
  /** A peer signed two different updates for a round. If the round is open, neither update counts. */
  | { type: 'excluded'; peer: string; round: number }
  /** The closed round's merge passed the gate. */
  | { type: 'merged' }
  /** No merge passed the gate. */
  | { type: 'refused'; reason: string }
  | { type: 'committed' }
  /** Merging or committing failed, and the updates are not the cause. The coordinator tries again. */
  | {
      type: 'attempt-failed';
      reason: string;
      cause: Exclude<PauseCause, 'operator'>;
      /**
       * Whether more attempts than usual are made, because a blob is lost that a node may bring. @default false
       */
      mayRecover?: boolean;
    }
  | { type: 'pause'; reason: string; cause: PauseCause }
  | { type: 'resume' }
  /** A queued job need not wait any longer: the job that it waited for has ended, or the operator resumed the queued job. */
  | { type: 'unqueue' }
  /** The operator changed settings. If a round is in progress, they apply from the next round on. */
  | { type: 'settings'; settings: MachineSettings }
  /** The operator restores the checkpoint of round `to`. An open round becomes a null round. */
  | ({ type: 'roll-back' } & RollBackOrder)
  | { type: 'stop'; reason: string }
  /** The hold of the job has ended. */
  | { type: 'released' }
  | { type: 'tick' };

export type CloseCause = 'complete' | 'quorum' | 'deadline' | 'operator';

export type Effect =
  | ({ type: 'open'; round: number; deadlineMs: number } & RoundPlan)
  /** Selects the round's updates. The next effect is `merge`. */
  | { type: 'close'; round: number; cause: CloseCause }
  | { type: 'merge'; round: number }
  | { type: 'commit'; round: number }
  /**
   * Ends the round as a null round. `tried`: whether it had enough updates, but the gate refused every merge of them.
   */
  | { type: 'discard'; round: number; reason: string; tried: boolean }
  | { type: 'announce'; phase: 'waiting' | 'paused' | 'finished'; reason: string };

export interface Transition {
  readonly state: JobState;
  readonly effects: readonly Effect[];
}

export function initialState(settings: MachineSettings): JobState {
  return {
    settings,
    nextSettings: null,
    phase: 'waiting',
    round: 1,
    current: null,
    committed: 0,
    refusals: 0,
    shortRounds: 0,
    present: {},
    arrivals: [],
    gathering: null,
    attempts: NO_ATTEMPTS,
    retryAt: null,
    ending: null,
    pauseCause: null,
    rollBack: null,
    isHeld: false,
    reason: '',
  };
}
