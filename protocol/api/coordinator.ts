import type { HoldReason } from '../holds.ts';
import type { Manifest } from '../job/manifest.ts';
import type { RunningSettings } from '../job/settings.ts';
import type { Checkpoint } from '../messages.ts';
import type { Role } from '../requests/member-status.ts';
import type { HealthMark } from './health.ts';
import type { CreateJobLine, JobCheck } from './job-creation.ts';
import type { CheckpointTasks, JobTasksView, SettingsChange } from './job-parts.ts';
import type { AddressReach } from './reach.ts';

/** An order that takes effect when the round in progress has ended. */
export interface PendingOrder {
  action: 'pause' | 'stop' | 'roll-back';
  /** Reason that the operator gave; empty if there is none. */
  reason: string;
  /** Round of the checkpoint that a roll-back restores; null for other orders. */
  to: number | null;
}

/** State of an invite, as `inviteState` returns it. */
export type InviteState = 'active' | 'used' | 'expired' | 'revoked';

/** The version of a checkpoint in the registry of adapters. */
export interface CheckpointVersion {
  /** Digest of the checkpoint. */
  readonly checkpoint: string;
  /** Name and number of the version: `NAME:vN`. */
  readonly label: string;
  /** The tags that name this version now, sorted. */
  readonly tags: readonly string[];
}

/** The coordinator, its addresses and its jobs. */
export interface CoordinatorStatus {
  schemaVersion: 1;
  role: 'coordinator';
  peerId: string;
  addresses: string[];
  /** The addresses, and whether a node has reached the coordinator there. */
  reach: AddressReach[];
  version: string;
  uptimeSeconds: number;
  traffic: { sent: number; received: number };
  jobs: JobSummary[];
}

/** Phase of a job. coordinator/round/state.ts explains each phase. */
export type JobPhase =
  | 'queued'
  | 'waiting'
  | 'training'
  | 'collecting'
  | 'validating'
  | 'committing'
  | 'paused'
  | 'finished';

/** State of a job. */
export interface JobSummary {
  job: string;
  name: string;
  phase: JobPhase;
  /** The round in progress, or the last one of a job that is over. The first round is 1. */
  round: number;
  /** Number of checkpoints that the job makes. Rounds without a checkpoint (null rounds) do not count. */
  rounds: number;
  /** Number of checkpoints so far, without the initial one. */
  roundsDone: number;
  /** Seconds until the round's deadline; null if no round is open. */
  secondsLeft: number | null;
  peers: number;
  /** Held-out loss of the initial adapter, in nats per token. An initial adapter without training has the loss of the base. */
  baseLoss: number | null;
  heldOutLoss: number | null;
  checkpoint: { round: number; digest: string };
  /** The best checkpoint so far (docs/workflow.md#the-best-checkpoint); null if no checkpoint was measured. */
  best: { round: number; heldOutLoss: number | null } | null;
  /**
   * Lowest held-out loss since the newest roll-back; null if none was measured. If a metric decides which checkpoint is
   * the best, the best checkpoint can have a higher loss.
   */
  lowestLoss: number | null;
  /**
   * The newest roll-back; null if there was none. `round`: round of the roll-back. `to`: round of the checkpoint that
   * it restored.
   */
  rolledBack: { round: number; to: number } | null;
  tokensPerSecond: number;
  reason: string;
  /**
   * Whether the job is held: the coordinator was restarted, and the job does not continue yet, because its nodes may
   * know a later head. `reason` has the details.
   */
  isHeld: boolean;
  /** Orders that take effect when the round in progress has ended, in the order of their effect. */
  pendingOrders: PendingOrder[];
  /** Wherever the coordinator chooses between jobs, a job with a higher priority comes first. */
  priority: number;
  /** The job that must end before this one opens; null if this job is not queued. */
  after: { job: string; name: string } | null;
  /** The newest change of the job's settings; null if they have not changed since the creation of the job. */
  newestChange: SettingsChange | null;
  /** The tasks on which checkpoints are evaluated; null if the job has none. */
  tasks: JobTasksView | null;
  /** Numbers of nodes that take no work for now or cannot join, by the reason. */
  waitingNodes: { reason: HoldReason; nodes: number }[];
  /** Whether the job paused itself (see `reason`) and continues only when its operator resumes it. */
  needsOperator: boolean;
  /** Level of the job's health, and the reason. monitor/health-rules.ts has the rules. */
  health: HealthMark;
  /** The shared invite, for `lora-swarm node` on another machine; null if it is revoked. */
  invite: string | null;
}

/** An invite of a job. */
export interface InviteView {
  /** Random id of a personal invite, or `shared`. */
  id: string;
  name: string | null;
  role: Role;
  /**
   * An `active` invite admits further machines. A `used` or `expired` invite admits only machines that have used it
   * before. A `revoked` invite admits no machine.
   */
  state: InviteState;
  /** Number of machines that may join with the invite; null if there is no limit, as for the shared invite. */
  uses: number | null;
  /** Number of machines that have used the invite. */
  used: number;
  createdAt: number;
  /** Time after which no further machine may join with the invite; null if it never expires. */
  expiresAt: number | null;
  revokedAt: number | null;
  /** Machines that have used the invite. `name` is null if the coordinator no longer knows the machine's name. */
  nodes: { peer: string; name: string | null; boundAt: number }[];
}

/** A new personal invite. Only the answer to its creation contains its text. */
export interface CreatedInvite extends InviteView {
  /** Digest of the job. */
  job: string;
  text: string;
}

/** Settings of a new personal invite. */
export interface CreateInviteOptions {
  /** Name by which the operator knows the person or machine. @default none */
  name?: string | null;
  /** @default 'contributor' */
  role?: Role;
  /** Number of machines that may join with the invite. @default 1 */
  uses?: number;
  /** Milliseconds after which no further machine may join with the invite; null for no limit. @default 7 days */
  lifetimeMs?: number | null;
}

/** A job with its manifest and the state of its round. */
export interface JobDetail extends JobSummary {
  /** The settings with which the job was created. */
  manifest: Manifest;
  /** The newest values of the settings that may change while the job runs. */
  settings: RunningSettings;
  /** All changes of the job's settings, oldest first. */
  settingsChanges: SettingsChange[];
  createdAt: number;
  updates: { round: number; assigned: string[]; received: string[] };
}

/** A checkpoint, and the folder where the coordinator keeps it. */
export interface CheckpointView {
  round: number;
  digest: string;
  parent: string | null;
  /** Round of the checkpoint whose adapter this roll-back restored; null if this checkpoint is not a roll-back. */
  restores: number | null;
  /** Folder in PEFT layout on the coordinator's machine. */
  path: string;
  /** Whether the weights are still in the folder. The folder of an old checkpoint has only the signed record. */
  kept: boolean;
  /** Whether this is the best checkpoint of the job so far. */
  isBest: boolean;
  /** Result of the evaluation on the job's tasks; null if the checkpoint was not evaluated. */
  tasks: CheckpointTasks | null;
  checkpoint: Checkpoint;
}

/** A line of the answer to a check of a job: progress, then the result or an error. */
export type CheckJobLine =
  | Extract<CreateJobLine, { event: 'progress' | 'error' }>
  | { event: 'checked'; check: JobCheck };
