import { z } from 'zod';
import { jobKeysSchema } from '../access/job-keys-message.ts';
import { membershipProofSchema } from '../access/membership-proof.ts';
import { contributionSchema } from '../contribution.ts';
import { bytesSchema, digestSchema, labelSchema, nameSchema, runIdSchema } from '../ids.ts';
import { headOrderSchema } from '../job/head-order.ts';
import {
  CONTROL_MESSAGE_BYTES,
  GOSSIP_MESSAGE_BYTES,
  JOBS_PER_COORDINATOR,
  RECALLED_MESSAGES,
  RPC_MESSAGE_BYTES,
  RPC_TIMEOUT_MS,
  SLOWEST_BYTES_PER_SECOND,
} from '../limits.ts';
import { roleSchema as role, standingSchema as standing } from './member-status.ts';
import { reachAnswerSchema, reachRequestSchema } from './reach-request.ts';
import { recordAnswerSchema, recordRequestSchema } from './record-request.ts';
import { scorerMethods } from './scorer-methods.ts';

/** libp2p protocol of blob transfers. */
export const BLOB_PROTOCOL = '/lora-swarm/blob/2';
/** libp2p protocol of requests. */
export const RPC_PROTOCOL = '/lora-swarm/rpc/2';
/** Earlier versions of the protocol. Their calls are refused with advice to update. */
export const OLD_RPC_PROTOCOLS: readonly string[] = ['/lora-swarm/rpc/1'];

const envelope = bytesSchema;
/** Token of an invite. */
const invite = z.string().max(128).nullable();
const admission = z.enum(['open', 'invite', 'peers']);
const empty = z.strictObject({});
const job = digestSchema;
/**
 * Random id of the caller's process. Two processes that use one key at the same time have different ids. Readers that do
 * not take part in the job send none.
 */
const run = runIdSchema.optional();
/** Shows a node that the caller has the job key. A node asks for it if not everyone may join the job. */
const proof = membershipProofSchema.optional();

/**
 * The methods, each with the schemas of its request and response, their maximum sizes in bytes, and the quota of each
 * peer. Signed envelopes travel as bytes, and their receiver verifies them.
 */
export const rpcMethods = {
  /** Lists the jobs of the coordinator that the caller may join. */
  jobs: {
    request: z.strictObject({ invite }),
    response: z.strictObject({
      jobs: z
        .array(z.strictObject({ job, name: nameSchema, phase: z.string().max(16) }))
        .max(JOBS_PER_COORDINATOR),
      /** Whether the coordinator has other jobs, which the caller may not join. */
      others: z.boolean(),
    }),
    maxRequestBytes: 256,
    maxResponseBytes: 32 * 1024,
    quota: { calls: 20, perMs: 10_000 },
  },
  /**
   * Joins a job. Returns the signed manifest, the newest head, the rule that says who may join the job, the
   * caller's role and standing, the newest round for which the caller has sent an update, and the job's keys.
   */
  join: {
    request: z.strictObject({
      job,
      invite,
      name: labelSchema,
      agent: labelSchema,
      engine: labelSchema,
      /** Training speed as the node measured it; 0 before its first round. */
      tokensPerSecond: z.number().nonnegative(),
      /** Whether the node offers to answer the requests `measure`, `evaluate` and `evaluation`. @default false */
      scores: z.boolean().optional(),
      run,
      /** Time on the node's clock. A node with a wrong clock is refused, because its heartbeats would be ignored. */
      sentAt: z.int().nonnegative(),
    }),
    response: z.strictObject({
      manifest: envelope,
      head: envelope.nullable(),
      admission,
      role,
      standing,
      /**
       * Newest round for which the coordinator has an update of the caller; null if there is none. A node that has lost
       * its database must not train this round again, because a second, different update is proof of a misdeed.
       */
      delivered: z.int().positive().nullable(),
      keys: jobKeysSchema,
    }),
    maxRequestBytes: 2048,
    maxResponseBytes: RPC_MESSAGE_BYTES,
    quota: { calls: 10, perMs: 10_000 },
  },
  /**
   * Returns manifest and head, for a peer that reads the job without joining. The peer must be admitted. A node answers
   * with the newest head that it has seen.
   */
  manifest: {
    request: z.strictObject({ job, invite, proof }),
    response: z.strictObject({ manifest: envelope, head: envelope.nullable() }),
    maxRequestBytes: 512,
    maxResponseBytes: RPC_MESSAGE_BYTES,
    quota: { calls: 10, perMs: 10_000 },
  },
  /** Returns a signed checkpoint by its digest; null if the job has none. Only peers that may read the job get an answer. */
  checkpoint: {
    request: z.strictObject({ job, digest: digestSchema }),
    response: z.strictObject({ checkpoint: envelope.nullable() }),
    maxRequestBytes: 256,
    maxResponseBytes: CONTROL_MESSAGE_BYTES + 1024,
    quota: { calls: 20, perMs: 10_000 },
  },
  /**
   * Makes the coordinator check its copy of a blob that the caller could not fetch, and repair it. Returns `checking` if
   * the check takes longer than the caller would wait. Only peers that may read the job get an answer. In an open job, a
   * peer that is not a member causes no check, and gets the result of an earlier check or `checking`.
   */
  recheck: {
    request: z.strictObject({ job, digest: digestSchema }),
    response: z.strictObject({ state: z.enum(['whole', 'checking', 'damaged']) }),
    maxRequestBytes: 256,
    maxResponseBytes: 64,
    quota: { calls: 5, perMs: 10_000 },
  },
  /**
   * Returns messages that the caller, a coordinator, has signed: the newest head of the job, the changes of
   * the job's settings, the checkpoints and receipts of rounds after `after`, oldest first, and the newest
   * record of removals. A coordinator that was restored from an old backup calls this method on its nodes.
   */
  recall: {
    request: z.strictObject({ job, after: z.int().nonnegative() }),
    response: z.strictObject({
      head: envelope.nullable(),
      settings: z.array(envelope).max(RECALLED_MESSAGES),
      checkpoints: z.array(envelope).max(RECALLED_MESSAGES),
      receipts: z.array(envelope).max(RECALLED_MESSAGES),
      removals: envelope.optional(),
    }),
    maxRequestBytes: 256,
    maxResponseBytes: RPC_MESSAGE_BYTES,
    quota: { calls: 10, perMs: 10_000 },
  },
  /**
   * Returns the time on the coordinator's clock. Strangers get an answer too, because a node with a wrong
   * clock cannot join.
   */
  clock: {
    request: empty,
    response: z.strictObject({ at: z.int().nonnegative() }),
    maxRequestBytes: 64,
    maxResponseBytes: 64,
    quota: { calls: 10, perMs: 10_000 },
  },
  /**
   * Makes the callee dial ports of the IP address from which the caller is connected to it, and check that the caller
   * answers there. Only members of the callee's jobs, and the coordinators of a node, get an answer.
   */
  reach: {
    request: reachRequestSchema,
    response: reachAnswerSchema,
    maxRequestBytes: 64,
    maxResponseBytes: 512,
    // All callers at one address together have a further quota (net/reach/dial-back.ts).
    quota: { calls: 3, perMs: 60_000 },
  },
  /** Leaves a job. From then on, rounds do not wait for the node. */
  leave: {
    request: z.strictObject({ job, reason: z.string().max(64), run }),
    response: empty,
    maxRequestBytes: 512,
    maxResponseBytes: 64,
    quota: { calls: 10, perMs: 10_000 },
  },
  /**
   * Returns the newest head, for nodes that gossip did not reach; null if it is not newer than `known`. Also returns
   * the job's keys. Only peers that may read the job get an answer.
   */
  head: {
    request: z.strictObject({
      job,
      known: headOrderSchema.optional(),
      run,
      /** Number of the newest record of removals that the caller keeps; 0 if it keeps none. */
      removals: z.int().nonnegative().optional(),
    }),
    response: z.strictObject({
      head: envelope.nullable(),
      keys: jobKeysSchema,
      /**
       * Time of the first sign of life of a second process that uses the caller's key, in milliseconds since the Unix
       * epoch. The coordinator refuses the second process. Present in one answer for each such process.
       */
      duplicateSince: z.int().nonnegative().optional(),
      /**
       * The newest record of removals, for the caller to keep. Absent if the caller keeps this record
       * already, or has just received it.
       */
      removals: envelope.optional(),
    }),
    maxRequestBytes: 256,
    maxResponseBytes: 2 * CONTROL_MESSAGE_BYTES + 2048,
    quota: { calls: 40, perMs: 10_000 },
  },
  /**
   * Returns how much the caller has contributed to the job up to the newest checkpoint; null if no merge has taken an
   * update of the caller. About other nodes, the answer has only their number and the sum of their tokens. Only members
   * get an answer.
   */
  contribution: {
    request: z.strictObject({ job }),
    response: z.strictObject({ contribution: contributionSchema.nullable() }),
    maxRequestBytes: 128,
    maxResponseBytes: 256,
    quota: { calls: 10, perMs: 10_000 },
  },
  /** Sends the coordinator an update that gossip may have lost. Returns the receipt of the update. */
  submit: {
    request: z.strictObject({ update: envelope }),
    response: z.strictObject({ receipt: envelope }),
    maxRequestBytes: GOSSIP_MESSAGE_BYTES + 1024,
    maxResponseBytes: 4096,
    quota: { calls: 10, perMs: 10_000 },
  },
  /** Returns the receipt of an update, or null if the coordinator never saw the update. */
  receipt: {
    request: z.strictObject({ job, update: digestSchema }),
    response: z.strictObject({ receipt: envelope.nullable() }),
    maxRequestBytes: 512,
    maxResponseBytes: 4096,
    quota: { calls: 40, perMs: 10_000 },
  },
  /**
   * Returns the signed scores and audits of a round, for witnesses; null if the round's updates were not scored. Only
   * peers that may read the job get an answer.
   */
  figures: {
    request: z.strictObject({ job, round: z.int().positive(), proof }),
    response: z.strictObject({ figures: envelope.nullable() }),
    maxRequestBytes: 256,
    maxResponseBytes: RPC_MESSAGE_BYTES,
    // All members of a job together, and all other peers together, have further quotas, as for `record`.
    quota: { calls: 10, perMs: 10_000 },
  },
  /**
   * Returns a signed change of the job's settings, by the digest that a head, a checkpoint or the next change names; null
   * if the job has no such change. Only peers that may read the job get an answer.
   */
  settings: {
    request: z.strictObject({ job, record: digestSchema, proof }),
    response: z.strictObject({ settings: envelope.nullable() }),
    maxRequestBytes: 256,
    maxResponseBytes: 4096,
    quota: { calls: 40, perMs: 10_000 },
  },
  /**
   * Returns a checkpoint of a job with the proofs of its contributors, so that the caller can verify the job. Only peers
   * that may read the job get an answer. A node answers from the part of the record that it keeps.
   */
  record: {
    request: recordRequestSchema,
    response: recordAnswerSchema,
    maxRequestBytes: 256,
    maxResponseBytes: RPC_MESSAGE_BYTES,
    // An answer takes up to 11 ms of the coordinator's thread. All members of a job together, and all other
    // peers together, have further quotas (coordinator/node-requests.ts).
    quota: { calls: 20, perMs: 10_000 },
  },
  ...scorerMethods,
  /** Sends the author of an update its receipt. Called by the coordinator. */
  notify: {
    request: z.strictObject({ receipt: envelope }),
    response: empty,
    maxRequestBytes: 4096,
    maxResponseBytes: 64,
    quota: { calls: 40, perMs: 10_000 },
  },
} as const;

/** Returns the time that a transfer takes at the lowest supported speed, in milliseconds. */
export function transferMs(bytes: number): number {
  return Math.ceil((1000 * bytes) / SLOWEST_BYTES_PER_SECOND);
}

/** Returns the maximum time of a call of a method whose messages have their largest size, in milliseconds. */
export function callTimeoutMs(method: RpcMethod): number {
  const { maxRequestBytes, maxResponseBytes } = rpcMethods[method];
  return RPC_TIMEOUT_MS + transferMs(maxRequestBytes) + transferMs(maxResponseBytes);
}

/** Name of a request. */
export type RpcMethod = keyof typeof rpcMethods;
/** Body of a request. */
export type RpcRequest<M extends RpcMethod> = z.infer<(typeof rpcMethods)[M]['request']>;
/** Body of a response. */
export type RpcResponse<M extends RpcMethod> = z.infer<(typeof rpcMethods)[M]['response']>;
