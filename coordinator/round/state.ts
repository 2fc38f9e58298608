import type { Arrival, ClosingSettings, Round } from './close.ts';
import type { PlanSettings, RoundPlan } from './plan.ts';

/**
 * What a coordinator does with one job, as a pure function of what has happened:
 *
 *   waiting → training → collecting → validating → committing → training …      paused · finished · failed
 *
 * waiting     fewer than minPeers nodes are present, or newcomers are still gathering
 * training    a round is open; nobody has delivered
 * collecting  a round is open; somebody has delivered
 * validating  the round is closed; its updates are being merged and checked on held-out data
 * committing  a merge has passed; its checkpoint is being made durable
 *
 * Every way out of committing, and every null round, goes through `proceed`: the next round, or why there is none.
 * The caller makes effects durable together with the state they belong to, and reports back what came of them.
 */
export interface JobState {
  readonly settings: MachineSettings;
  readonly phase:
    | 'waiting'
    | 'training'
    | 'collecting'
    | 'validating'
    | 'committing'
    | 'paused'
    | 'finished'
    | 'failed';
  /** The round in progress, the next one to open, or the last one of a job that is over. */
  readonly round: number;
  /** Set from a round's opening until its checkpoint is committed or it turns out null; while paused, a closed one. */
  readonly current: Round | null;
  /** Checkpoints committed, the initial one not counted. */
  readonly committed: number;
  /** Rounds in a row that the held-out gate has turned down. */
  readonly refusals: number;
  /** Rounds in a row that ended for lack of updates: each doubles the time that the next one gets. */
  readonly shortRounds: number;
  /** Tokens per second by peer that is ready to train; 0 while unmeasured. */
  readonly present: Readonly<Record<string, number>>;
  readonly arrivals: readonly Arrival[];
  /** While waiting with enough peers: since when, and until when newcomers are waited for. */
  readonly gathering: { readonly since: number; readonly until: number } | null;
  /** Failed attempts at merging or committing the closed round, and when the next one is due. */
  readonly attempts: number;
  readonly retryAt: number | null;
  /** Asked for by the operator, to be done as soon as the closed round is through. */
  readonly ending: Ending | null;
  readonly reason: string;
}

export type MachineSettings = ClosingSettings &
  PlanSettings & {
    /** Checkpoints after which the job is finished. */
    readonly count: number;
  };

export interface Ending {
  readonly phase: 'paused' | 'finished';
  readonly reason: string;
}

export type MachineEvent =
  /** Ready to train (again). Speed as known, 0 when not. */
  | { type: 'peer-ready'; peer: string; speed: number }
  | { type: 'peer-gone'; peer: string; reason: 'left' | 'silent' }
  /** Still there, but its part of the round is lost. */
  | { type: 'gave-up'; peer: string; round: number }
  /** Durably recorded. `ms` since the opening of its round, `speed` in tokens per second over that time. */
  | { type: 'update'; peer: string; round: number; ms: number; speed: number }
  /** The closed round's updates are merged; the result passed the gate, or nothing did. */
  | { type: 'merged' }
  | { type: 'refused'; reason: string }
  | { type: 'committed' }
  /** Merging or committing broke down; nothing is wrong with the updates. */
  | { type: 'stumbled'; reason: string }
  | { type: 'pause'; reason: string }
  | { type: 'resume' }
  | { type: 'stop'; reason: string }
  | { type: 'fail'; reason: string }
  | { type: 'tick' };

export type CloseCause = 'complete' | 'quorum' | 'deadline' | 'operator';

export type Effect =
  | ({ type: 'open'; round: number; deadlineMs: number } & RoundPlan)
  /** Fixes which updates the round has; `merge` follows. */
  | { type: 'close'; round: number; cause: CloseCause }
  | { type: 'merge'; round: number }
  | { type: 'commit'; round: number }
  /** A null round. `tried`: its updates were merged and turned down, not just too few. */
  | { type: 'discard'; round: number; reason: string; tried: boolean }
  | { type: 'announce'; phase: 'waiting' | 'paused' | 'finished' | 'failed'; reason: string };

export interface Transition {
  readonly state: JobState;
  readonly effects: readonly Effect[];
}

export function initialState(settings: MachineSettings): JobState {
  return {
    settings,
    phase: 'waiting',
    round: 1,
    current: null,
    committed: 0,
    refusals: 0,
    shortRounds: 0,
    present: {},
    arrivals: [],
    gathering: null,
    attempts: 0,
    retryAt: null,
    ending: null,
    reason: '',
  };
}
