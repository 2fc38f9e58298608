import type { Manifest } from '../protocol/job/manifest.ts';
import type { Checkpoint } from '../protocol/messages.ts';
import type { VerifiedSettings } from '../protocol/settings-chain.ts';
import type { JobRecord } from './record.ts';

/** Facts about a job that its verified manifest and settings give. */
export interface JobFacts {
  readonly job: string;
  /** Peer id of the coordinator, which signed the manifest. */
  readonly coordinator: string;
  readonly manifest: Manifest;
  /** Verified changes of the settings; null if their chain is broken. */
  readonly settings: readonly VerifiedSettings[] | null;
  readonly record: JobRecord;
  readonly signal: AbortSignal;
}

/** A checkpoint whose signature has been verified. */
export interface SignedCheckpoint {
  readonly digest: string;
  readonly checkpoint: Checkpoint;
}
