import type { RateLimiter } from '../common/limits/rate-limiter.ts';
import type { Logger } from '../common/logger.ts';
import type { Clock } from '../common/time/clock.ts';
import type { AdapterLayout } from '../lora/adapter/layout.ts';
import type { Row } from '../lora/data/row.ts';
import type { AdamWState } from '../lora/train/optimizer/adamw.ts';
import type { RowLoss } from '../lora/train/step.ts';
import type { JobPosition } from '../lora/train/trainer.ts';
import type { LossGradient } from '../lora/update/score.ts';
import type { SwarmNetwork } from '../net/network.ts';
import type { JobEvent } from '../protocol/api/job-events.ts';
import type { HeadOrder } from '../protocol/job/head-order.ts';
import type { Manifest } from '../protocol/job/manifest.ts';
import type { Checkpoint } from '../protocol/messages.ts';
import type { ReceiptCode } from '../protocol/receipts.ts';
import type { BlobCollector } from '../storage/blob-collector.ts';
import type { BlobStore } from '../storage/blobs.ts';
import type { Failpoint } from './failpoints.ts';
import type { JoinRefusal } from './peers/admission.ts';
import type { JobKeys } from './record/job-keys.ts';
import type { JobSettings } from './record/job-settings.ts';
import type { QueuePlace } from './record/queue-place.ts';
import type { Store, StoredBan, StoredJob } from './store/store.ts';

/** External dependencies of a coordinator. The simulation in the tests passes simulated dependencies. */
export interface CoordinatorDeps {
  readonly network: SwarmNetwork;
  readonly blobs: BlobStore;
  readonly store: Store;
  readonly validator: Validator;
  readonly folders: CheckpointFolders;
  readonly clock: Clock;
  readonly log: Logger;
  /** Returns random bytes that no peer can predict. @default random bytes of node:crypto */
  readonly randomBytes?: (count: number) => Uint8Array;
  /** Called after each step of failpoints.ts, so that tests can kill the coordinator there. @default does nothing */
  readonly failpoint?: Failpoint;
  /**
   * Called when a write to the store fails. The callback must end the process. @default throws the error
   * outside of any promise, so that the process ends
   */
  readonly fatal?: (error: unknown) => void;
  /** Called before each transaction of a job. @default does nothing */
  readonly beforeTransaction?: () => void;
  /** @default measures nothing */
  readonly meter?: RoundMeter;
}

/** Receives measurements for the metrics (see docs/metrics.md). `job` is the job's name. */
export interface RoundMeter {
  /** A merge was computed. `bytes`: total size of the payloads that the merge read. */
  merge(job: string, measured: { seconds: number; bytes: number }): void;
  /** The gate has decided about a closed round. */
  gate(
    job: string,
    measured: { seconds: number; verdict: GateVerdict; merged: number; leftOut: number; outliers: number },
  ): void;
  /** The updates of a closed round were scored. */
  scoring(
    job: string,
    measured: { seconds: number; scored: number; unscored: number; harmful: number; disbelieved: number },
  ): void;
  /** An audit has ended. `share`: rows trained by all audits of the job, divided by the rows that its nodes trained. */
  audit(
    job: string,
    measured: { verdict: 'passed' | 'failed' | 'dropped'; rows: number; seconds: number; share: number },
  ): void;
  /** An update was refused on arrival. Called even if the refusal was not recorded. */
  refusal(job: string, code: ReceiptCode): void;
  /** A node asked to join. `code`: `ok`, or the code of the refusal. */
  join(job: string, code: 'ok' | JoinRefusal): void;
  /**
   * A member changed its description, appeared or disappeared, and the change was not recorded, because a quota of such
   * changes was used up.
   */
  unrecorded(job: string, what: 'description' | 'presence'): void;
}

/**
 * Result of the gate for a round:
 * - `passed`: the merge passed unchanged
 * - `half-rate`, `quarter-rate`: the merge passed with a half or a quarter of the outer rate
 * - `removed`: the merge passed without the updates of some persons
 * - `refused`: no variant of the merge passed
 * - `rolled-back`: the held-out loss is too far above the loss of the lowest checkpoint, so the coordinator rolls back
 *   to the lowest checkpoint
 */
export type GateVerdict = 'passed' | 'half-rate' | 'quarter-rate' | 'removed' | 'refused' | 'rolled-back';

/** Measures adapters in a process with the job's base. */
export interface Validator {
  /**
   * Returns the losses of an adapter on the job's held-out rows. The rows and their order are always the
   * same, so that the losses of two adapters can be compared row by row.
   * @param adapter tensors in layout order
   * @throws SwarmError when the evaluation failed. The error does not mean that the adapter is bad.
   */
  evaluate(
    job: ValidationJob,
    adapter: readonly Float32Array[],
    options: EvaluateOptions,
  ): Promise<readonly RowLoss[]>;
  /**
   * Returns the gradient of the mean training loss over the rows, in nats per supervised token, with respect
   * to the adapter.
   * @param adapter tensors in layout order
   * @throws SwarmError when the computation failed. The error does not mean that the adapter is bad.
   */
  gradient(
    job: ValidationJob,
    adapter: readonly Float32Array[],
    rows: readonly Row[],
    options: EvaluateOptions,
  ): Promise<LossGradient>;
  /**
   * Returns the training loss of an adapter on each row, in the order of the rows.
   * @param adapter tensors in layout order
   * @throws SwarmError when the evaluation failed. The error does not mean that the adapter is bad.
   */
  losses(
    job: ValidationJob,
    adapter: readonly Float32Array[],
    rows: readonly Row[],
    options: EvaluateOptions,
  ): Promise<readonly RowLoss[]>;
  /**
   * Makes optimiser steps, as a node does. Evaluations and gradients have priority over these steps. When an
   * evaluation or a gradient is requested, or when `pause` aborts, training stops after the current
   * micro-batch.
   * @returns the state after the last complete step. If training was stopped, some of the requested steps are
   *   missing.
   * @throws SwarmError when the computation failed. The error does not mean that the adapter is bad.
   */
  train(
    job: ValidationJob,
    training: StepsToMake,
    options: EvaluateOptions & { readonly pause: AbortSignal },
  ): Promise<StepsMade>;
  /** Frees the resources kept for a job that will not be evaluated for a while. */
  release(job: string): Promise<void>;
}

export interface ValidationJob {
  readonly job: string;
  readonly manifest: Manifest;
}

/** The optimiser steps that an audit makes. */
export interface StepsToMake {
  /** Tensors in layout order. */
  readonly adapter: readonly Float32Array[];
  /** Rows to train on, in the order of training. */
  readonly rows: readonly Row[];
  readonly steps: number;
  readonly optimizer: AdamWState;
  readonly position: JobPosition;
}

/** State after optimiser steps of an audit. */
export interface StepsMade {
  readonly adapter: readonly Float32Array[];
  readonly optimizer: AdamWState;
  /** Number of optimiser steps that were made. */
  readonly steps: number;
  /** Number of rows on which the steps were made. */
  readonly rows: number;
  /** True if all requested steps were made, or if no rows were left. False if the training was interrupted earlier. */
  readonly isComplete: boolean;
}

export interface EvaluateOptions {
  readonly signal: AbortSignal;
  /**
   * Called when a device failed and the computation restarts with settings that need less memory. `because` says why in
   * words.
   */
  readonly onFallback: (because: string) => void;
  /** Called before each micro-batch of losses or of a gradient. @default does nothing */
  readonly onProgress?: (() => void) | undefined;
}

/**
 * Time limit for one computation of the validator: the evaluation of an adapter, or one gradient. A slower computation
 * would take longer than the rounds whose merges it judges.
 */
export const EVALUATION_TIMEOUT_MS = 15 * 60_000;

/** Writes checkpoints as PEFT folders. The simulation writes none. */
export interface CheckpointFolders {
  /** Writes a folder. It is complete and durable when the promise resolves; a partial folder is never visible. */
  write(checkpoint: CheckpointToWrite): Promise<void>;
  path(job: string, round: number): string;
  /**
   * Writes the signed manifest of a job next to its folders, as the proof that the database has recorded the job. Does
   * nothing if the file exists.
   */
  recordJob(name: string, manifest: Uint8Array): Promise<void>;
  /** Deletes the weights in a checkpoint's folder and keeps the signed files. Idempotent. */
  empty(job: string, round: number): Promise<void>;
}

export interface CheckpointToWrite {
  readonly manifest: Manifest;
  readonly layout: AdapterLayout;
  readonly digest: string;
  readonly checkpoint: Checkpoint;
  /** The signed checkpoint. */
  readonly envelope: Uint8Array;
}

export interface RetentionSettings {
  /** Number of newest checkpoints that keep their weights; 0 keeps all weights. @default KEPT_CHECKPOINTS */
  readonly checkpoints: number;
  /**
   * Number of newest rounds whose payloads are kept. At least three rounds are kept, because an update that arrives up
   * to two rounds late is still merged.
   * @default KEPT_ROUNDS
   */
  readonly rounds: number;
}

/** Facts and dependencies that the parts of one JobRun share. */
export interface RunContext {
  readonly job: string;
  readonly stored: StoredJob;
  readonly manifest: Manifest;
  readonly layout: AdapterLayout;
  readonly keys: JobKeys;
  readonly place: QueuePlace;
  readonly settings: JobSettings;
  readonly deps: Required<CoordinatorDeps>;
  /**
   * Limiter of the quotas that all jobs share. Its keys are constants in the code. Peers cannot add keys, so the
   * limiter never has to drop one.
   */
  readonly limiter: RateLimiter;
  /** Collects the garbage of the blob store, which all jobs share. */
  readonly collector: BlobCollector;
  readonly retention: RetentionSettings;
  /** Whether updates are audited. */
  readonly audits: boolean;
  /** Aborts when the coordinator stops. */
  readonly signal: AbortSignal;
  /**
   * Notes the newest head that a member says it knows. If the coordinator has not signed such a head, it asks the member
   * for the head.
   */
  noteKnown(peer: string, known: HeadOrder): void;
  /**
   * Whether a node has a later head of the job, which this coordinator signed, then lost, and has not adopted again
   * yet.
   */
  isBehind(): boolean;
  /** Whether the operator ordered to stop the job while it was behind, and the job has not stopped yet. */
  isStopping(): boolean;
  /** Stops a job that is behind: as soon as it has caught up, or else after a minute. */
  stopBehind(reason: string): void;
  /** Called with each event after it has become durable. */
  onEvent(event: JobEvent): void;
  readonly enforcement: BanEnforcement;
}

/** The banned person, and the job of the ban. The job is null for a ban from all jobs. */
type Banned = Pick<StoredBan, 'peer' | 'person' | 'job'>;

/** Enforces a ban in all jobs to which the ban applies. */
export interface BanEnforcement {
  /** Changes the job keys that the person has. Called in the transaction that records the ban. */
  changeKeys(banned: Banned): void;
  /** Removes the person's nodes. Called when the ban is durable. */
  remove(banned: Banned): void;
}

/** The newest committed checkpoint. */
export interface CurrentCheckpoint {
  readonly digest: string;
  readonly checkpoint: Checkpoint;
  /** Number of checkpoints of the job before this checkpoint. */
  readonly ordinal: number;
  /** Digest of the blob with the part of the adapter that the published deltas left out; null if there is none. */
  readonly residual: string | null;
}
