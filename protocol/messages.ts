import { z } from 'zod';
import { figuresSchema } from './figures.ts';
import { holdReasons } from './holds.ts';
import { bytesSchema, digestSchema, labelSchema, peerIdSchema, runIdSchema } from './ids.ts';
import { headOrderSchema } from './job/head-order.ts';
import { blobRefSchema, manifestSchema, presetSchema } from './job/manifest.ts';
import { headSettingsSchema, settingsRecordSchema } from './job/settings.ts';
import {
  ADAPTER_BYTES,
  CONTROL_MESSAGE_BYTES,
  DETAIL_CHARACTERS,
  GOSSIP_MESSAGE_BYTES,
  INLINE_UPDATE_BYTES,
  ROUND_PEERS,
  RPC_MESSAGE_BYTES,
  UPDATE_BYTES,
} from './limits.ts';
import { receiptCodes } from './receipts.ts';
import { versionManifestSchema } from './version-manifest.ts';

const index = z.int().nonnegative();
const finite = z.number();
const term = z.int().positive();
const adapterRef = z.strictObject({ digest: digestSchema, size: z.int().positive().max(ADAPTER_BYTES) });

/** Ties a message to one round of one job, so that a replay is recognised. */
const roundFields = { job: digestSchema, term, round: z.int().positive() };

/**
 * The state of a job, announced by its coordinator. `sequence` grows by one with each head of the job; nodes follow the
 * greatest (term, sequence). In phase `training`, nodes train `round` from `checkpoint`.
 */
export const headSchema = z.strictObject({
  job: digestSchema,
  term,
  sequence: z.int().positive(),
  phase: z.enum(['waiting', 'training', 'paused', 'finished', 'failed']),
  round: z.int().positive(),
  checkpoint: z.strictObject({
    /**
     * Digest of the body of the signed checkpoint. Every update of this round names this checkpoint as its parent.
     */
    digest: digestSchema,
    /** The round that produced the checkpoint; 0 is the initial adapter. */
    round: index,
    /** Number of earlier checkpoints. After null rounds, it is smaller than `round`. */
    ordinal: index,
    adapter: adapterRef,
    /**
     * The quantised difference between this adapter and the parent checkpoint's adapter. A node that has the parent
     * fetches the difference instead of the adapter.
     */
    delta: z
      .strictObject({ parent: digestSchema, digest: digestSchema, size: index.max(UPDATE_BYTES) })
      .nullable(),
    heldOutLoss: finite.nullable(),
  }),
  preset: presetSchema,
  /** Disjoint intervals [start, end) of the round's permutation of the data rows. */
  assignments: z
    .array(z.strictObject({ peer: peerIdSchema, start: index, end: index, steps: z.int().positive() }))
    .max(ROUND_PEERS),
  /**
   * Milliseconds from `issuedAt` to the deadline of the round; 0 outside of training. At the deadline, the round closes
   * even if some nodes have not delivered.
   */
  deadlineMs: index,
  /** The updates merged into the checkpoint, by payload digest. */
  included: z.array(z.strictObject({ peer: peerIdSchema, update: digestSchema })).max(ROUND_PEERS),
  reason: z.string().max(DETAIL_CHARACTERS),
  /**
   * Settings of `round` that the operator has changed since the job began. Absent if all settings are as in
   * the manifest.
   */
  settings: headSettingsSchema.optional(),
  issuedAt: index,
});

/**
 * A node's update of one round. `payload` refers to the encoded bytes. `inline` contains these bytes if they
 * are small.
 */
export const updateSchema = z.strictObject({
  ...roundFields,
  parent: digestSchema,
  preset: presetSchema,
  start: index,
  end: index,
  steps: z.int().positive(),
  tokens: z.int().positive(),
  seconds: finite.nonnegative(),
  lossFirst: finite,
  lossLast: finite,
  payload: z.strictObject({ digest: digestSchema, size: z.int().positive().max(UPDATE_BYTES) }),
  inline: bytesSchema
    .refine(
      (bytes) => bytes.byteLength <= INLINE_UPDATE_BYTES,
      `must be at most ${INLINE_UPDATE_BYTES} bytes`,
    )
    .nullable(),
});

/** The coordinator's answer to one update. The update's author acts on the code. */
export const receiptSchema = z.strictObject({
  ...roundFields,
  peer: peerIdSchema,
  /** Digest of the payload, as in `head.included`. For an unreadable or replayed message, the digest of the message. */
  update: digestSchema,
  code: z.enum(receiptCodes),
  detail: z.string().max(DETAIL_CHARACTERS),
  issuedAt: index,
});

/** A committed version of the adapter. The digest of its body is the checkpoint's identity. */
export const checkpointSchema = z.strictObject({
  job: digestSchema,
  term,
  round: index,
  base: digestSchema,
  parent: digestSchema.nullable(),
  adapter: adapterRef,
  delta: blobRefSchema.nullable(),
  contributors: z
    .array(
      z.strictObject({
        peer: peerIdSchema,
        update: digestSchema,
        round: index,
        tokens: index,
        weight: finite,
      }),
    )
    .max(ROUND_PEERS),
  metrics: z.strictObject({
    heldOutLoss: finite.nullable(),
    heldOutTokens: index,
    /** Mean of the nodes' last training losses; null for the initial checkpoint. */
    trainLoss: finite.nullable(),
    tokens: index,
    seconds: finite.nonnegative(),
    /** Outer rate of the merge that passed the gate: the job's rate, or a half or a quarter of it. */
    outerRate: finite,
    /** Size of all merged updates in bytes. */
    updateBytes: index,
    /**
     * Relative difference between mean(B)·mean(A) and mean(B·A), from lora/update/drift.ts. The means are over the
     * merged updates. Null if fewer than two updates were merged.
     */
    drift: finite.nullable(),
  }),
  /** Digest of the newest change of the job's settings that applies to `round`. Absent if no change applies to it. */
  settings: digestSchema.optional(),
  createdAt: index,
});

/** A node's heartbeat on the `peers` topic. */
export const heartbeatSchema = z.strictObject({
  job: digestSchema,
  name: labelSchema,
  agent: labelSchema,
  /** `busy`: the node has work in this round, but its trainer still trains another job. */
  state: z.enum(['joining', 'syncing', 'busy', 'training', 'publishing', 'awaiting', 'leaving']),
  /**
   * The newest round that the node knows to be open or committed. If a node in state `awaiting` has delivered no update
   * in this round, its work is lost, and the coordinator stops waiting for the node. So a node must never name a round
   * that has not opened yet.
   */
  round: index,
  /** Number of optimiser steps done in this round. */
  step: index,
  /** Number of optimiser steps assigned for this round. */
  steps: index,
  tokensPerSecond: finite.nonnegative(),
  engine: labelSchema,
  bytesSent: index,
  bytesReceived: index,
  /**
   * Reason why the node takes no work for now. During this time, the coordinator assigns no rows to the node. Absent if
   * the node takes work.
   */
  hold: z.strictObject({ reason: z.enum(holdReasons), detail: labelSchema }).optional(),
  /** Random id of the node's process. Two processes that use one key at the same time have different ids. */
  run: runIdSchema.optional(),
  /**
   * Position of the newest head that the node knows; absent if it knows none. If the coordinator has not signed this head
   * itself, another copy of the coordinator has, or the coordinator was restored from an old backup.
   */
  known: headOrderSchema.optional(),
  issuedAt: index,
});

/** The revoked invites and the bans of a job, encrypted so that only the coordinator can read the record. */
export const removalsSchema = z.strictObject({
  job: digestSchema,
  /** Number of removals and lifted bans so far. The record with the greatest number is the newest. */
  sequence: z.int().positive(),
  sealed: bytesSchema,
  issuedAt: index,
});

/** The schema of each kind of signed message. */
export const messageSchemas = {
  manifest: manifestSchema,
  head: headSchema,
  update: updateSchema,
  receipt: receiptSchema,
  checkpoint: checkpointSchema,
  heartbeat: heartbeatSchema,
  figures: figuresSchema,
  settings: settingsRecordSchema,
  removals: removalsSchema,
  'version-manifest': versionManifestSchema,
} as const;

/** Name of a kind of signed message. */
export type MessageKind = keyof typeof messageSchemas;
/** The type of each kind of signed message. */
export type Messages = { [K in MessageKind]: z.infer<(typeof messageSchemas)[K]> };
/** The newest checkpoint and the next round, as the coordinator announces them. */
export type Head = Messages['head'];
/** A node's update of a round: its assignment, its own figures about the training, and the payload or its digest. */
export type Update = Messages['update'];
/** The coordinator's answer to an update. */
export type Receipt = Messages['receipt'];
/** A version of the adapter with its parent, contributors and metrics. */
export type Checkpoint = Messages['checkpoint'];
/** A node's heartbeat: its state, progress and speed. */
export type Heartbeat = Messages['heartbeat'];
/** Scores, beliefs and audits of a round's updates. */
export type Figures = Messages['figures'];
/** A change of a job's settings. */
export type SettingsRecord = Messages['settings'];

/** Maximum size of a message body in bytes, by kind. */
export const messageBytes: Record<MessageKind, number> = {
  manifest: RPC_MESSAGE_BYTES / 2,
  head: CONTROL_MESSAGE_BYTES,
  update: GOSSIP_MESSAGE_BYTES - 1024,
  receipt: 2048,
  checkpoint: CONTROL_MESSAGE_BYTES,
  heartbeat: 2048,
  figures: (3 / 4) * RPC_MESSAGE_BYTES,
  settings: 2048,
  removals: CONTROL_MESSAGE_BYTES,
  'version-manifest': RPC_MESSAGE_BYTES / 2,
};

/**
 * Maximum number of values in an update, including keys. An update has about 40. Without a limit, an update of tiny
 * values could take dozens of milliseconds to decode. The other messages are small, or come from a coordinator.
 */
export const UPDATE_ITEMS = 256;
