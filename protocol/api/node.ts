import type { JobContribution } from '../contribution.ts';
import type { HoldReason } from '../holds.ts';
import type { ChangedSetting } from '../job/settings.ts';
import type { Head, Heartbeat } from '../messages.ts';
import type { ReceiptCode } from '../receipts.ts';
import type { Role } from '../requests/member-status.ts';
import type { RpcResponse } from '../requests/rpc.ts';
import type { AddressReach } from './reach.ts';

/** A jump of the calendar clock of this machine. */
export interface ClockJump {
  /** Milliseconds by which the clock was set forward; negative if it was set back. */
  readonly byMs: number;
  /** Seconds since the jump. */
  readonly secondsAgo: number;
}

/** Reason why a node takes no work for now. */
export interface Hold {
  readonly reason: HoldReason;
  /** The needed and the allowed amount, if the reason has amounts; otherwise empty. Up to 64 characters. */
  readonly detail: string;
}

/** Limits that the owner of a machine has set, as the home of a node stores them. A missing limit has its default. */
export interface KeptLimits {
  /** Threads of the processor that the trainer uses. */
  readonly threads?: number | undefined;
  /** Maximum size of a base model's files, in bytes. */
  readonly maxBaseBytes?: number | undefined;
  /** Maximum disk space for the files of jobs, in bytes. */
  readonly maxDiskBytes?: number | undefined;
  /** Maximum memory of the node's own process, its trainers and its jobs together, in bytes. */
  readonly maxMemoryBytes?: number | undefined;
  /** Whether the node pauses for the user of the machine. */
  readonly polite?: boolean | undefined;
  /** Hours of the day at which the node works, in local time, such as "22:00-07:00". */
  readonly hours?: string | undefined;
  /** Maximum number of bytes per second that the node sends. */
  readonly maxUpload?: number | undefined;
  /** Maximum number of bytes per second that the node receives. */
  readonly maxDownload?: number | undefined;
  /** Maximum number of bytes that the node sends and receives in a month (UTC), in total. */
  readonly maxTraffic?: number | undefined;
}

/** Reasons for a pause of the whole node. Other holds concern one job. */
export type PauseReason = Extract<HoldReason, 'paused' | 'machine-busy' | 'battery' | 'hours' | 'traffic'>;

/** A pause of the whole node. It ends automatically, or at the order of the owner. */
export interface Pause {
  readonly reason: PauseReason;
  /** The reason as a text that the owner of the machine reads. */
  readonly text: string;
  /** Time at which the pause ends, in milliseconds since 1970; null if the time is not known. */
  readonly until: number | null;
}

/**
 * Outcome of an update. `counted` means that the update is part of a checkpoint. `restored` means that the
 * update is part of no checkpoint, and that the node has added it back to its error feedback.
 */
export type Outcome = 'counted' | 'restored';

/** The work of a node in one job, over the life of its key. */
export interface JobTotals {
  readonly job: string;
  /** Name of the job; null before the node has prepared it. */
  readonly name: string | null;
  /** Number of updates that the coordinator accepted and did not leave out later. */
  readonly accepted: number;
  /** Number of updates that did not count. Their content went into later updates. */
  readonly refused: number;
  /** Number of supervised tokens of the accepted updates. */
  readonly tokens: number;
  /** Training time of the accepted updates, in seconds. */
  readonly seconds: number;
  /**
   * The merged work of this node, compared with all contributors of the job, as the coordinator has answered last; null
   * before the first answer.
   */
  readonly contribution: JobContribution | null;
}

/** Bytes sent and received on all connections. */
export interface Traffic {
  readonly sent: number;
  readonly received: number;
}

/** Activity of a node for one invite. */
export interface NodeActivity {
  coordinator: {
    addresses: string[];
    peer: string | null;
    connected: boolean;
    /** The newest failed attempts to connect; null while connected and before the first failure. */
    unreachable: { reason: string; failures: number; retrySeconds: number } | null;
  };
  job: NodeJob | null;
  /**
   * Name of the job; before the node has joined the job, the name that the job had when the node last joined it. Null if
   * the node has never joined it.
   */
  jobName: string | null;
  state: Heartbeat['state'];
  /** Reason why the node waits; empty while it trains. */
  reason: string;
  /** Reason why the node takes no work for now, such as a limit or a pause; null if it takes work. */
  hold: Hold | null;
  /** Seconds until the next attempt to join or to fetch the adapter; null if no attempt is planned. */
  retrySeconds: number | null;
  /** Round of the newest head; 0 before the first head. */
  round: number;
  /**
   * The newest round that ended before this node had finished its work in it; null if there is none. Restarts of the node
   * reset it.
   */
  missedRound: number | null;
  /** How far the coordinator trusts the person who answers for this node; null before the node has joined a job. */
  standing: RpcResponse<'join'>['standing'] | null;
  /** Number of optimiser steps made in this round. */
  step: number;
  /** Number of optimiser steps planned for this round. */
  steps: number;
  tokensPerSecond: number;
  /** Whether the job has ended, this node holds its last adapter, and all its updates are settled. */
  done: boolean;
  /** Whether the node joins the coordinator's next job when this job has ended, because its invite names no job. */
  followsJobs: boolean;
  /** The download in progress, with the bytes fetched so far and in total; null if there is none. */
  download: { what: 'base' | 'data' | 'adapter'; bytes: number; total: number } | null;
}

/** Activity of a node for one invite, and the share of the trainer's time that the invite gets. */
export interface NodeJobStatus extends NodeActivity {
  /**
   * Weight of the job. The jobs of a node get shares of the trainer's time in proportion to their weights.
   */
  weight: number;
  /** Time for which the trainer has worked for this invite since the node started, in seconds. */
  trainerSeconds: number;
  /** Why the coordinator has shut this node out; null while the node is not shut out. */
  shutOut: { code: string; message: string } | null;
}

/**
 * Answer to GET /v1/status of a node (HTTP on the loopback interface). The CLI prints it. The fields of
 * `NodeActivity` describe the first invite whose coordinator has not shut the node out. `jobs` has the same
 * fields for each invite.
 */
export interface NodeStatus extends NodeActivity {
  schemaVersion: 1;
  role: 'node';
  peerId: string;
  name: string;
  version: string;
  addresses: string[];
  /** The addresses, and whether another peer has reached the node there. */
  reach: AddressReach[];
  uptimeSeconds: number;
  traffic: { sent: number; received: number };
  /** Engine of the trainer; empty until the node has chosen one. */
  engine: string;
  /** Reason for the choice of this engine, or the fallback after a device failed; null until the engine is chosen. */
  engineNote: string | null;
  /** Number of restarts of the trainer process. */
  trainerRestarts: number;
  /** The jobs of all invites, in the order of the invites. */
  jobs: NodeJobStatus[];
  /** The work of this node since its key was created, by job; the job with the newest update comes first. */
  totals: JobTotals[];
  cost: NodeCost;
  /** The jumps of the machine's clock in the last ten minutes; null if the clock runs evenly. */
  clockJump: ClockJump | null;
  /** The pause of the whole node; null while it takes work. */
  pause: Pause | null;
  /** Whether the node stops after the round that it trains. */
  draining: boolean;
  /** Whether the node pauses for the user of the machine. */
  polite: boolean;
  /** Limits that the owner has set for this home. */
  limits: KeptLimits;
  /** The newest updates of this node, newest first. */
  updates: NodeUpdate[];
}

/** Cost of the node to its machine. */
export interface NodeCost {
  /**
   * Processor time that the node and its trainer use per second. For example, 2 means that two threads were
   * busy.
   */
  cpuThreads: number;
  /** Memory of the node and of its trainer together, in bytes. */
  memoryBytes: number;
  /** Size of the node's home folder in bytes; null until it has been measured. */
  diskBytes: number | null;
  bytesPerSecond: Traffic;
  /** Traffic of this month (UTC) over all starts of the node. */
  month: Traffic & { month: string };
}

/** The job of a node. */
export interface NodeJob {
  job: string;
  name: string;
  base: { name: string; digest: string; parameters: number };
  adapterParameters: number;
  /** Role of the node in the job. An observer or operator gets no work. */
  role: Role;
  /** Phase of the job; null until the node has received a head of the job. */
  phase: Head['phase'] | null;
  /**
   * Reason of the phase, such as the operator's reason for a pause. While the job trains, this text says that the round began
   * with a restored checkpoint, and why. Empty if there is no reason.
   */
  reason: string;
  /** Number of checkpoints that the job makes. Rounds without a checkpoint (null rounds) do not count. */
  rounds: number;
  /** Number of checkpoints so far, without the initial one. */
  roundsDone: number;
  preset: Head['preset'] | null;
  checkpoint: { round: number; digest: string; heldOutLoss: number | null } | null;
  /** The newest change of the job's settings that the node knows; null if the settings are those of the manifest. */
  newestChange: NodeSettingsChange | null;
}

/** A change that the operator of a job has made to its settings. */
export interface NodeSettingsChange {
  /** Digest of the signed record of this change. */
  digest: string;
  /** The first round in which the changed settings apply. */
  fromRound: number;
  /** The settings that changed, by their keys in the job file. */
  changes: ChangedSetting[];
  /** Reason that the operator gave; empty if there is none. */
  reason: string;
}

/** An update that a node made. */
export interface NodeUpdate {
  job: string;
  round: number;
  update: string;
  bytes: number;
  /** Code of the newest receipt for this update; null until a receipt has arrived. */
  code: ReceiptCode | null;
  detail: string;
  meaning: string;
  /** Outcome of the update; null until the update is settled. */
  outcome: Outcome | null;
  at: number;
}

/** The clock of a coordinator, compared with the clock of the node's machine. */
export interface CoordinatorClock {
  /** Peer id of the coordinator. */
  coordinator: string;
  /** Milliseconds by which the coordinator's clock is ahead; negative if it is behind. */
  offsetMs: number;
  /**
   * Round-trip time, in milliseconds, of the request that measured `offsetMs`. The error of `offsetMs` is at most half
   * of this time.
   */
  roundTripMs: number;
}

/** What a coordinator's record says about an update of the node. */
export interface CoordinatorRecord {
  /** The newest receipt; null if the coordinator has none, or did not answer. */
  receipt: { code: ReceiptCode; detail: string; at: number } | null;
  /** The published score of the update; null if the update was not scored, or the coordinator did not answer. */
  figures: {
    /** Round of the merge that the update was scored for. */
    merge: number;
    /** Effect and gain in nats per token; null if they were not measured. */
    effect: number | null;
    gain: number | null;
    share: number | null;
    belief: number;
    harmful: boolean;
    audit: 'passed' | 'failed' | null;
  } | null;
}
