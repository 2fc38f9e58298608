import type { LimitFunction } from 'p-limit';
import type { Clock } from '../common/clock.ts';
import type { Logger } from '../common/logger.ts';
import type { AdapterLayout } from '../lora/adapter/layout.ts';
import type { Trainers } from '../lora/train/trainers.ts';
import type { NodeMetrics } from '../monitor/node-metrics.ts';
import type { SwarmNetwork } from '../net/network.ts';
import type { Manifest } from '../protocol/manifest.ts';
import type { Head } from '../protocol/messages.ts';
import type { BlobCollector } from '../storage/blob-collector.ts';
import type { BlobStore } from '../storage/blobs.ts';
import type { NodePolicy } from './policy.ts';
import type { NodeStore } from './store/node-store.ts';
import type { NodeTrainer } from './trainer.ts';

export interface SwarmNodeOptions {
  /** Multiaddrs of the coordinator, each ending in /p2p/<peer id>; the first that answers is used. */
  addresses: readonly string[];
  /** Digest of the job; null takes the coordinator's first job that is not over, and the next one after it. */
  job: string | null;
  /** Token of an invite; null for open jobs. */
  invite: string | null;
  /** What people see of this node. */
  name: string;
  /** Program and version. */
  agent: string;
  policy: NodePolicy;
  /** Whose memory the policy limits. @default one process */
  trainers?: Trainers;
}

/** Hears what is worth counting. */
export type NodeObserver = Pick<NodeMetrics, 'receipt' | 'trained'>;

export interface SwarmNodeDeps {
  network: SwarmNetwork;
  blobs: BlobStore;
  trainer: NodeTrainer;
  store: NodeStore;
  clock: Clock;
  log: Logger;
  observer: NodeObserver;
  /** Uniform in [0, 1). */
  random: () => number;
}

/** Bytes of a download that the node waits for. */
export interface Download {
  what: 'base' | 'data' | 'adapter';
  bytes: number;
  total: number;
}

/** What the phases of one job share. */
export interface PhaseContext {
  readonly options: SwarmNodeOptions;
  readonly deps: SwarmNodeDeps;
  readonly collector: BlobCollector;
  /** Held by whoever reads and replaces the error feedback. */
  readonly feedbackLock: LimitFunction;
  readonly job: string;
  /** Peer id of the job's coordinator: the author of its manifest, and of every head and receipt. */
  readonly coordinator: string;
  readonly manifest: Manifest;
  onDownload(download: Download | null): void;
}

/** A job whose base is in place and whose trainer is ready. */
export interface ReadyContext extends PhaseContext {
  readonly layout: AdapterLayout;
}

/** An adapter in memory; its bytes have been checked against the digest of a head. */
export interface HeldAdapter {
  /** Digest of the checkpoint that it belongs to. */
  readonly checkpoint: string;
  readonly digest: string;
  readonly tensors: readonly Float32Array[];
}

/** Other holders that are asked at once for blobs: enough to spread the load of a large base. */
const MOST_HOLDERS = 8;

/** Who can be expected to have a job's blobs: its coordinator, and nodes of its newest head that we are connected to. */
export function holdersOf(context: PhaseContext, head: Head | null): string[] {
  const { network } = context.deps;
  const connected = new Set(network.peers().map(({ peer }) => peer));
  const nodes = [...(head?.included ?? []), ...(head?.assignments ?? [])].map(({ peer }) => peer);
  const near = new Set(nodes.filter((peer) => connected.has(peer) && peer !== network.signer.peerId));
  near.delete(context.coordinator);
  return [context.coordinator, ...near].slice(0, MOST_HOLDERS);
}
