import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { NodeMetrics } from '../../monitor/metrics/node-metrics.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import type { Role } from '../../protocol/requests/member-status.ts';
import type { BlobCollector } from '../../storage/blob-collector.ts';
import type { BlobStore } from '../../storage/blobs.ts';
import type { FetchTurns } from '../blobs/fetch-turns.ts';
import type { OwnStanding } from '../contact/port.ts';
import type { QuestionAnswerer } from '../evaluation/answerer.ts';
import type { Pauses } from '../limits/pauses.ts';
import type { JoinOptions, PhasePort, ReadyPort, SiblingJob } from '../phases/port.ts';
import type { KnownJobs } from '../store/known-jobs.ts';
import type { NodeStore } from '../store/node-store.ts';
import type { NodeTrainer, ScoreTrainer } from '../trainer/trainer.ts';
import type { TrainerShare } from '../trainer/trainer-share.ts';

export interface SwarmNodeOptions extends JoinOptions {
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

/** The job that a node is in. */
export interface JobContext extends PhasePort {
  readonly options: SwarmNodeOptions;
  readonly deps: SwarmNodeDeps;
  /** Whether everyone may join the job. Everyone may then read its base, data and adapter. */
  readonly isOpen: boolean;
  /** Role of this node in the job. Only a contributor gets work. */
  readonly role: Role;
}

/** A job whose base is on this machine and whose trainer is ready. */
export type ReadyJob = JobContext & Pick<ReadyPort, 'layout'>;
