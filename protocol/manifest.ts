import { z } from 'zod';
import { digestSchema, nameSchema } from './ids.ts';
import { ADAPTER_BYTES, BASE_FILES, BLOB_BYTES, DATA_SHARDS } from './limits.ts';

const count = z.int().positive();

/** A content-addressed file: fetched by digest, verified against it, never larger than it says. */
export const blobRefSchema = z.strictObject({
  digest: digestSchema,
  size: z.int().nonnegative().max(BLOB_BYTES),
});
export type BlobRef = z.infer<typeof blobRefSchema>;

/** The LoRA shape, in PEFT's terms. */
export const loraSchema = z.strictObject({
  /** @default 16 */
  rank: count.max(1024).default(16),
  /** Scaling is alpha / rank. @default 32 */
  alpha: z.number().positive().max(65536).default(32),
  /** "all-linear", a list of module names, or a regular expression that matches whole module names. */
  targets: z
    .union([z.string().min(1).max(1024), z.array(z.string().min(1).max(256)).min(1).max(512)])
    .default('all-linear'),
});

/** Local optimisation on each node: AdamW, measured in optimiser steps of `batchSize` rows. */
export const trainingSchema = z.strictObject({
  /** @default 1e-3 */
  learningRate: z.number().positive().max(1).default(1e-3),
  schedule: z.enum(['constant', 'cosine']).default('constant'),
  /** Optimiser steps, counted over all of a node's rounds. @default 20 */
  warmupSteps: z.int().nonnegative().max(1_000_000).default(20),
  betas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).default([0.9, 0.95]),
  epsilon: z.number().positive().max(1).default(1e-8),
  weightDecay: z.number().min(0).max(1).default(0),
  /** Greatest global gradient norm. @default 1 */
  clipNorm: z.number().positive().max(1e6).default(1),
  /** Rows per optimiser step. @default 8 */
  batchSize: count.max(4096).default(8),
  /** Rows that pass through the model at once; the rest is gradient accumulation. @default 8 */
  microBatch: count.max(4096).default(8),
  /** Tokens per row. @default 128 */
  sequenceLength: count.min(8).max(131072).default(128),
});

export const presetSchema = z.enum(['tiny', 'balanced', 'quality', 'dense']);

/** How rounds run and how their updates are merged. */
export const roundsSchema = z.strictObject({
  /** Checkpoints to commit before the job is finished. @default 8 */
  count: count.max(1_000_000).default(8),
  /** Optimiser steps that the fastest node makes in a round; slower ones make fewer, at least a third. @default 20 */
  localSteps: count.max(10_000).default(20),
  /** Nodes that must be present before a round opens, and updates without which it is a null round. @default 2 */
  minPeers: count.max(512).default(2),
  /** Share of the assigned nodes whose updates let a round close before its deadline. @default 0.6 */
  quorum: z.number().gt(0).max(1).default(0.6),
  /** Longest round before any has been timed, and the ceiling for all. @default 600 */
  maxSeconds: z.number().positive().max(86_400).default(600),
  /** "auto" is dense below four nodes, balanced from four. @default "auto" */
  preset: z.union([presetSchema, z.literal('auto')]).default('auto'),
  /** Decay of each node's error feedback per round. @default 0.5 */
  errorFeedbackDecay: z.number().min(0).max(1).default(0.5),
  /** Least share of the total weight that a coordinate's sum is divided by. @default 0.25 */
  denominatorFloor: z.number().min(0).max(1).default(0.25),
  /** Outer learning rate. @default 1 */
  outerRate: z.number().positive().max(10).default(1),
});

/** When a merged adapter may become the next checkpoint. */
export const acceptanceSchema = z.strictObject({
  /** A checkpoint may be worse by this share of the loss (or two standard errors). @default 0.002 */
  tolerance: z.number().min(0).max(1).default(0.002),
  /** Rows of held-out data that the gate looks at each round; 0 means all. @default 64 */
  heldOutRows: z.int().nonnegative().max(1_000_000).default(64),
});

/** What a job is: signed by its coordinator; the digest of its canonical CBOR is the job's identity. */
export const manifestSchema = z.strictObject({
  version: z.literal(1),
  name: nameSchema,
  base: z.strictObject({
    name: z.string().min(1).max(200),
    digest: digestSchema,
    parameters: z.int().positive(),
    files: z
      .array(
        z.strictObject({
          path: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, 'must be a plain file name'),
          size: z.int().nonnegative().max(BLOB_BYTES),
          digest: digestSchema,
        }),
      )
      .min(1)
      .max(BASE_FILES),
  }),
  data: z.strictObject({
    rows: count,
    tokens: z.int().nonnegative(),
    sequenceLength: count,
    shards: z
      .array(
        z.strictObject({ digest: digestSchema, size: z.int().nonnegative().max(BLOB_BYTES), rows: count }),
      )
      .min(1)
      .max(DATA_SHARDS),
    /** Commits the coordinator to its held-out data without publishing it. */
    heldOut: z.strictObject({ digest: digestSchema, rows: count, tokens: z.int().nonnegative() }),
  }),
  lora: loraSchema,
  adapter: z.strictObject({
    parameters: count,
    /** Digest of the adapter that round 1 starts from. */
    initial: z.strictObject({ digest: digestSchema, size: z.int().positive().max(ADAPTER_BYTES) }),
  }),
  training: trainingSchema,
  rounds: roundsSchema,
  acceptance: acceptanceSchema,
  seed: z.int().nonnegative().max(0xffffffff),
  createdAt: z.int().nonnegative(),
});
export type Manifest = z.infer<typeof manifestSchema>;
