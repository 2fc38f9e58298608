import type { LimitFunction } from 'p-limit';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import type { Trainers } from '../../lora/train/memory/trainers.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import type { BlobCollector } from '../../storage/blob-collector.ts';
import type { BlobStore } from '../../storage/blobs.ts';
import type { BlobDeps } from '../blobs/obtain.ts';
import type { Applicant, ClaimedJob, ContactDeps, ContactPort } from '../contact/port.ts';
import type { JobLimits } from '../limits/policy.ts';
import type { NodeStore } from '../store/node-store.ts';
import type { TrainerShare } from '../trainer/trainer-share.ts';

/** The invite with which a node joins a job, and what its owner lends to the job. */
export interface JoinOptions extends Applicant {
  /** Multiaddrs of the coordinator, each ending in /p2p/<peer id>. The first that answers is used. */
  readonly addresses: readonly string[];
  /**
   * Digest of the job. If null, the node joins the coordinator's first job that is not over. When that job has ended,
   * the node joins the next one.
   */
  readonly job: string | null;
  /** Name that the job had when the node last joined it. @default it is not known */
  readonly knownName?: string | null;
  readonly policy: JobLimits;
  /** Number of the node's trainer processes, and of the copies of the base in memory. @default one of each */
  readonly trainers?: Trainers;
}

/** The job of one of the node's other invites. */
export interface SiblingJob extends ClaimedJob {
  /** Digest of the job that the node has joined with the invite, or that the invite names; null if neither is known. */
  readonly job: string | null;
  /** Manifest of the job, if the job fits the limits of the machine's owner and is not done; otherwise null. */
  readonly fittingManifest: Manifest | null;
  /** Whether the job needs nothing more from this node. */
  readonly isDone: boolean;
}

/** What the phases use of the node. */
export interface PhaseDeps extends ContactDeps, BlobDeps {
  readonly network: ContactDeps['network'] & BlobDeps['network'] & Pick<SwarmNetwork, 'signer'>;
  readonly store: NodeStore;
  readonly blobs: BlobStore;
  /** The node's trainer. Each call waits until this job has its turn. */
  readonly trainer: TrainerShare;
  readonly siblings: () => readonly SiblingJob[];
}

/** Progress of a download that the node waits for, in bytes. */
export interface Download {
  what: 'base' | 'data' | 'adapter';
  bytes: number;
  total: number;
}

/** The job that a node is in, as its phases use it. */
export interface PhasePort extends ContactPort {
  readonly options: JoinOptions;
  readonly deps: PhaseDeps;
  readonly collector: BlobCollector;
  /** Serialises the work that reads and replaces the error feedback. */
  readonly feedbackLock: LimitFunction;
  readonly manifest: Manifest;
  onDownload(download: Download | null): void;
}

/** A job whose base is on this machine and whose trainer is ready. */
export interface ReadyPort extends PhasePort {
  readonly layout: AdapterLayout;
}

/** The adapter that a node holds in memory. */
export interface HeldAdapter {
  /** Digest of the checkpoint that the adapter belongs to. */
  readonly checkpoint: string;
  /** Digest of the encoded adapter, which is also in the head. */
  readonly digest: string;
  readonly tensors: readonly Float32Array[];
}
