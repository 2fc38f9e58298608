import { z } from 'zod';
import { headOrderSchema } from './head-order.ts';
import { bytesSchema, digestSchema, nameSchema } from './ids.ts';
import {
  CONTROL_MESSAGE_BYTES,
  GOSSIP_MESSAGE_BYTES,
  JOBS_PER_COORDINATOR,
  RPC_MESSAGE_BYTES,
} from './limits.ts';

export const BLOB_PROTOCOL = '/lora-swarm/blob/1';
export const RPC_PROTOCOL = '/lora-swarm/rpc/1';

const envelope = bytesSchema;
const empty = z.strictObject({});
const job = digestSchema;

/**
 * One entry per method: request, response, greatest sizes in bytes, and how many calls a peer may make.
 * Signed envelopes travel as bytes and are opened by whoever uses them.
 */
export const rpcMethods = {
  /** Jobs that the asked coordinator runs. */
  jobs: {
    request: empty,
    response: z.strictObject({
      jobs: z
        .array(z.strictObject({ job, name: nameSchema, phase: z.string().max(16) }))
        .max(JOBS_PER_COORDINATOR),
    }),
    maxRequestBytes: 256,
    maxResponseBytes: 32 * 1024,
    quota: { calls: 20, perMs: 10_000 },
  },
  /** A node asks to take part. The answer is the signed manifest and the newest head. */
  join: {
    request: z.strictObject({
      job,
      invite: z.string().max(128).nullable(),
      name: z.string().max(64),
      agent: z.string().max(64),
      engine: z.string().max(64),
      /** Own measurement, 0 before the first round. */
      tokensPerSecond: z.number().nonnegative(),
      /** By the node's clock: one that is wrong is told so, for its heartbeats would count for nothing. */
      sentAt: z.int().nonnegative(),
    }),
    response: z.strictObject({ manifest: envelope, head: envelope.nullable() }),
    maxRequestBytes: 2048,
    maxResponseBytes: RPC_MESSAGE_BYTES,
    quota: { calls: 10, perMs: 10_000 },
  },
  /** What the job is and where it stands, for whoever comes to fetch and takes no part. Admitted as nodes are. */
  manifest: {
    request: z.strictObject({ job, invite: z.string().max(128).nullable() }),
    response: z.strictObject({ manifest: envelope, head: envelope.nullable() }),
    maxRequestBytes: 512,
    maxResponseBytes: RPC_MESSAGE_BYTES,
    quota: { calls: 10, perMs: 10_000 },
  },
  leave: {
    request: z.strictObject({ job, reason: z.string().max(64) }),
    response: empty,
    maxRequestBytes: 512,
    maxResponseBytes: 64,
    quota: { calls: 10, perMs: 10_000 },
  },
  /** The newest head, for nodes that gossip did not reach; null when it is no newer than the one they know. */
  head: {
    request: z.strictObject({ job, known: headOrderSchema.optional() }),
    response: z.strictObject({ head: envelope.nullable() }),
    maxRequestBytes: 256,
    maxResponseBytes: CONTROL_MESSAGE_BYTES + 1024,
    quota: { calls: 40, perMs: 10_000 },
  },
  /** An update that gossip may have lost, sent straight to the coordinator. Answers with its receipt. */
  submit: {
    request: z.strictObject({ update: envelope }),
    response: z.strictObject({ receipt: envelope }),
    maxRequestBytes: GOSSIP_MESSAGE_BYTES + 1024,
    maxResponseBytes: 4096,
    quota: { calls: 10, perMs: 10_000 },
  },
  /** What became of an update; null when it was never seen. */
  receipt: {
    request: z.strictObject({ job, update: digestSchema }),
    response: z.strictObject({ receipt: envelope.nullable() }),
    maxRequestBytes: 512,
    maxResponseBytes: 4096,
    quota: { calls: 40, perMs: 10_000 },
  },
  /** Coordinator to author: a receipt, as soon as there is one. */
  notify: {
    request: z.strictObject({ receipt: envelope }),
    response: empty,
    maxRequestBytes: 4096,
    maxResponseBytes: 64,
    quota: { calls: 40, perMs: 10_000 },
  },
} as const;

export type RpcMethod = keyof typeof rpcMethods;
export type RpcRequest<M extends RpcMethod> = z.infer<(typeof rpcMethods)[M]['request']>;
export type RpcResponse<M extends RpcMethod> = z.infer<(typeof rpcMethods)[M]['response']>;
