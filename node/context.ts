import type { LimitFunction } from 'p-limit';
import type { Logger } from '../common/logger.ts';
import type { Clock } from '../common/time/clock.ts';
import type { AdapterLayout } from '../lora/adapter/layout.ts';
import type { Trainers } from '../lora/train/memory/trainers.ts';
import type { NodeMetrics } from '../monitor/metrics/node-metrics.ts';
import type { SwarmNetwork } from '../net/network.ts';
import type { BlobProof } from '../protocol/access/job-key.ts';
import type { Manifest } from '../protocol/job/manifest.ts';
import type { Head } from '../protocol/messages.ts';
import type { Role } from '../protocol/requests/member-status.ts';
import type { RpcResponse } from '../protocol/requests/rpc.ts';
import type { BlobCollector } from '../storage/blob-collector.ts';
import type { BlobStore } from '../storage/blobs.ts';
import type { FetchTurns } from './blobs/fetch-turns.ts';
import type { HeadSettings } from './contact/head-settings.ts';
import type { JobKeys } from './contact/job-keys.ts';
import type { QuestionAnswerer } from './evaluation/answerer.ts';
import type { Pauses } from './limits/pauses.ts';
import type { JobLimits } from './limits/policy.ts';
import type { JobClaim } from './store/job-files.ts';
import type { KnownJobs } from './store/known-jobs.ts';
import type { NodeStore } from './store/node-store.ts';
import type { NodeTrainer, ScoreTrainer } from './trainer/trainer.ts';
import type { TrainerShare } from './trainer/trainer-share.ts';

export interface SwarmNodeOptions {
  /** Multiaddrs of the coordinator, each ending in /p2p/<peer id>. The first that answers is used. */
  addresses: readonly string[];
  /**
   * Digest of the job. If null, the node joins the coordinator's first job that is not over. When that job has ended,
   * the node joins the next one.
   */
  job: string | null;
  /** Token of an invite; null for open jobs. */
  invite: string | null;
  /** Name that the job had when the node last joined it. @default it is not known */
  knownName?: string | null;
  /** Display name of the node. */
  name: string;
  /** Name and version of the program. */
  agent: string;
  policy: JobLimits;
  /** Number of the node's trainer processes, and of the copies of the base in memory. @default one of each */
  trainers?: Trainers;
  /**
   * Weight of this job. The jobs of a node get shares of the trainer's time in proportion to their weights. @default 1
   */
  weight?: number;
}

/** The metrics that the node's work changes. */
export type NodeMeter = Pick<NodeMetrics, 'receiptArrived' | 'roundTrained' | 'roundLost'>;

/** Keeps the invites of the node's jobs for the next start. */
export type InviteMemory = Pick<KnownJobs, 'remember' | 'forget'>;

/** Dependencies that all jobs of a node share. */
export interface NodeDeps {
  network: SwarmNetwork;
  blobs: BlobStore;
  trainer: NodeTrainer;
  /** Computes scores for the coordinator. @default the node computes no scores */
  scoreTrainer?: ScoreTrainer;
  /** Answers the questions of evaluations for the coordinator. @default the node evaluates nothing */
  answerer?: QuestionAnswerer;
  store: NodeStore;
  /** Checks that the node's disk can be written. @default does nothing */
  checkDisk?: () => Promise<void>;
  /** The pause of the whole node. @default the node never pauses */
  pauses?: Pauses;
  /** @default keeps no invites */
  knownJobs?: InviteMemory;
  clock: Clock;
  log: Logger;
  meter: NodeMeter;
  /** Returns a random number, uniform in [0, 1). */
  random: () => number;
  /** Returns random bytes that no peer can predict. */
  randomBytes: (count: number) => Uint8Array;
  /**
   * Random id of this process, with which a coordinator finds two processes that use one key.
   * @default the coordinator does not look for a second process
   */
  runId?: string;
}

/** The job of one of the node's other invites. */
export interface SiblingJob {
  /** Digest of the job that the node has joined with the invite, or that the invite names; null if neither is known. */
  readonly job: string | null;
  /** Manifest of the job, if the job fits the limits of the machine's owner and is not done; otherwise null. */
  readonly fittingManifest: Manifest | null;
  /** Whether the job needs nothing more from this node. */
  readonly isDone: boolean;
  /** Returns whether the node has joined this job with the invite, or is joining the job. */
  claims(claim: JobClaim): boolean;
  /** Returns whether the invite is for this job. */
  names(claim: JobClaim): boolean;
}

/** Dependencies of the node's work for one invite. */
export interface SwarmNodeDeps extends Omit<NodeDeps, 'trainer'> {
  /** The node's trainer. Each call waits until this job has its turn. */
  trainer: TrainerShare;
  collector: BlobCollector;
  fetchTurns: FetchTurns;
  /** Returns the jobs of the node's other invites. */
  siblings: () => readonly SiblingJob[];
  /** Called once, when the coordinator has shut this node out. The node then does nothing more for this invite. */
  onShutOut: () => void;
  /** Called when the node begins to train a round. @default does nothing */
  onTraining?: () => void;
  /**
   * Called with the node's standing after each request to join, because the answer contains it.
   * @default does nothing
   */
  onStanding?: (standing: OwnStanding) => void;
}

/** How far the coordinator trusts the person who answers for this node. */
export type OwnStanding = RpcResponse<'join'>['standing'];

/** Progress of a download that the node waits for, in bytes. */
export interface Download {
  what: 'base' | 'data' | 'adapter';
  bytes: number;
  total: number;
}

/** The job that a node is in, and all that the functions in `phases/` need to work on it. */
export interface PhaseContext {
  readonly options: SwarmNodeOptions;
  readonly deps: SwarmNodeDeps;
  readonly collector: BlobCollector;
  /** Serialises the work that reads and replaces the error feedback. */
  readonly feedbackLock: LimitFunction;
  readonly job: string;
  /** Peer id of the job's coordinator: the author of its manifest, and of every head and receipt. */
  readonly coordinator: string;
  readonly manifest: Manifest;
  readonly keys: JobKeys;
  readonly headSettings: HeadSettings;
  /** Whether everyone may join the job. Everyone may then read its base, data and adapter. */
  readonly isOpen: boolean;
  /** Role of this node in the job. Only a contributor gets work. */
  readonly role: Role;
  onDownload(download: Download | null): void;
}

/** A job whose base is on this machine and whose trainer is ready. */
export interface ReadyContext extends PhaseContext {
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

/**
 * Maximum number of peers from which one blob is fetched. Eight peers are enough to spread the load of a large base.
 */
const MAX_HOLDERS = 8;

/**
 * Returns the peers that probably have a job's blobs: the coordinator, and the connected nodes that the head names.
 * These peers ask for a proof that this node is admitted to the job. `prove` makes the proof.
 */
export function sourcesOf(
  { deps, coordinator, keys }: PhaseContext,
  head: Head | null,
): { holders: string[]; prove: (holder: string) => BlobProof } {
  const { network } = deps;
  const connected = new Set(network.peers().map(({ peer }) => peer));
  const nodes = [...(head?.included ?? []), ...(head?.assignments ?? [])].map(({ peer }) => peer);
  const near = new Set(nodes.filter((peer) => connected.has(peer) && peer !== network.signer.peerId));
  near.delete(coordinator);
  const holders = [coordinator, ...near].slice(0, MAX_HOLDERS);
  return { holders, prove: (holder) => keys.prove(holder) };
}
