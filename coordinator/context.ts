import type { Clock } from '../common/clock.ts';
import type { Logger } from '../common/logger.ts';
import type { RateLimiter } from '../common/rate-limiter.ts';
import type { AdapterLayout } from '../lora/adapter/layout.ts';
import type { JobEvent } from '../monitor/job-events.ts';
import type { SwarmNetwork } from '../net/network.ts';
import type { Manifest } from '../protocol/manifest.ts';
import type { Checkpoint } from '../protocol/messages.ts';
import { type Verified, verifyMessage } from '../protocol/signing.ts';
import type { BlobCollector } from '../storage/blob-collector.ts';
import type { BlobStore } from '../storage/blobs.ts';
import type { Failpoint } from './failpoints.ts';
import type { Arithmetic } from './merge/arithmetic.ts';
import type { Validator } from './merge/validator.ts';
import type { CheckpointFolders } from './record/checkpoint-folders.ts';
import type { RetentionSettings } from './record/retention.ts';
import type { MachineSettings } from './round/state.ts';
import type { NewCheckpoint, Store, StoredJob } from './store/store.ts';

/** What a coordinator needs of the world; the simulation puts virtual ones in their places. */
export interface CoordinatorDeps {
  readonly network: SwarmNetwork;
  readonly blobs: BlobStore;
  readonly store: Store;
  readonly validator: Validator;
  readonly arithmetic: Arithmetic;
  readonly folders: CheckpointFolders;
  readonly clock: Clock;
  readonly log: Logger;
  /** Called at each durable step. @default does nothing */
  readonly failpoint?: Failpoint;
  /** The store cannot be written to: the process has to end. @default throws, outside of any promise */
  readonly fatal?: (error: unknown) => void;
}

/** What the parts of one running job share. */
export interface RunContext {
  readonly job: string;
  readonly stored: StoredJob;
  readonly manifest: Manifest;
  readonly layout: AdapterLayout;
  readonly deps: Required<CoordinatorDeps>;
  readonly limiter: RateLimiter;
  /** Of the coordinator's one blob store, whatever the job. */
  readonly collector: BlobCollector;
  readonly retention: RetentionSettings;
  /** Aborts when the coordinator stops. */
  readonly signal: AbortSignal;
  /** Told of each event after it has become durable. */
  onEvent(event: JobEvent): void;
}

/** The newest committed version of the adapter. */
export interface CurrentCheckpoint {
  readonly digest: string;
  readonly checkpoint: Checkpoint;
  /** Checkpoints before it in the job. */
  readonly ordinal: number;
  /** Blob of the downlink's residual; null: zero. */
  readonly residual: string | null;
}

export function readCheckpoint(
  { digest, envelope, residual }: NewCheckpoint,
  ordinal: number,
): CurrentCheckpoint {
  return { digest, checkpoint: verifyMessage('checkpoint', envelope).message, ordinal, residual };
}

/** A stored job's manifest, as signed by this coordinator. @throws SwarmError as `open` */
export function readManifest(stored: StoredJob): Verified<'manifest'> {
  return verifyMessage('manifest', stored.manifest);
}

export function machineSettings({ rounds, training }: Manifest): MachineSettings {
  return {
    count: rounds.count,
    localSteps: rounds.localSteps,
    minPeers: rounds.minPeers,
    quorum: rounds.quorum,
    maxSeconds: rounds.maxSeconds,
    preset: rounds.preset,
    batchSize: training.batchSize,
  };
}
