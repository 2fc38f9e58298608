import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import type { RpcResponse } from '../../protocol/requests/rpc.ts';
import type { JobClaim } from '../store/job-files.ts';
import type { NodeStore } from '../store/node-store.ts';
import type { HeadSettings } from './head-settings.ts';
import type { JobKeys } from './job-keys.ts';

/** What a request to a peer uses. */
export interface Caller {
  readonly network: Pick<SwarmNetwork, 'request'>;
  readonly clock: Clock;
}

/** How far the coordinator trusts the person who answers for this node. */
export type OwnStanding = RpcResponse<'join'>['standing'];

/** What a request to join tells the coordinator about this node. */
export interface Applicant {
  /** Display name of the node. */
  readonly name: string;
  /** Name and version of the program. */
  readonly agent: string;
  /** Token of an invite; null for open jobs. */
  readonly invite: string | null;
}

/** What the contact with a coordinator uses of the node. */
export interface ContactDeps extends Caller {
  readonly network: Pick<
    SwarmNetwork,
    'connect' | 'publish' | 'request' | 'signer' | 'subscribe' | 'traffic'
  >;
  readonly store: Pick<NodeStore, 'job' | 'kept' | 'keptJobs' | 'totals' | 'update'>;
  readonly trainer: { readonly engine: string };
  /** Computes scores for the coordinator. @default the node computes no scores */
  readonly scoreTrainer?: object;
  readonly log: Logger;
  /** Returns a random number, uniform in [0, 1). */
  readonly random: () => number;
  /** Returns random bytes that no peer can predict. */
  readonly randomBytes: (count: number) => Uint8Array;
  /**
   * Random id of this process, with which a coordinator finds two processes that use one key.
   * @default the coordinator does not look for a second process
   */
  readonly runId?: string;
  /** Returns the jobs of the node's other invites. */
  readonly siblings: () => readonly ClaimedJob[];
  /**
   * Called with the node's standing after each request to join, because the answer contains it.
   * @default does nothing
   */
  readonly onStanding?: (standing: OwnStanding) => void;
}

/** The job of one of the node's other invites, as far as it may be the same job. */
export interface ClaimedJob {
  /** Returns whether the node has joined this job with the invite, or is joining the job. */
  claims(claim: JobClaim): boolean;
  /** Returns whether the invite is for this job. */
  names(claim: JobClaim): boolean;
}

/** A job whose coordinator has admitted the node. */
export interface ContactPort {
  readonly options: Applicant;
  readonly deps: ContactDeps;
  readonly job: string;
  /** Peer id of the job's coordinator: the author of its manifest, and of every head and receipt. */
  readonly coordinator: string;
  readonly keys: JobKeys;
  readonly headSettings: HeadSettings;
}
