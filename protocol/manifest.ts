import { z } from 'zod';
import { digestSchema, nameSchema } from './ids.ts';
import { ADAPTER_BYTES, BASE_FILES, BLOB_BYTES, DATA_SHARD_BYTES, DATA_SHARDS } from './limits.ts';

const count = z.int().positive();

/** A content-addressed file: fetched by digest, verified against it, never larger than it says. */
export const blobRefSchema = z.strictObject({
  digest: digestSchema,
  size: z.int().nonnegative().max(BLOB_BYTES),
});
export type BlobRef = z.infer<typeof blobRefSchema>;

/** Most names or patterns in a list: PEFT may write out every module, and the largest Llama has 882 linear ones. */
const MODULES = 1024;
/** Whole or trailing parts of module paths: 'q_proj', 'self_attn.q_proj', 'lm_head'. */
const moduleNames = z.array(z.string().min(1).max(256)).max(MODULES);
/** A regular expression over module paths. */
const modulePattern = z.string().min(1).max(1024);
/** Highest rank taken from a job or an adapter file: above it LoRA costs more than the layers it adapts. */
const rank = count.max(1024);
const alpha = z.number().positive().max(65536);

/**
 * [pattern, value] pairs; written as a map in job files. Kept as pairs because the first pattern that matches wins,
 * and the canonical form of a manifest sorts the keys of its maps.
 */
function byPattern<T extends z.ZodType>(value: T) {
  const pairs = z.array(z.tuple([modulePattern, value])).max(MODULES);
  const isMap = (given: unknown): given is object =>
    typeof given === 'object' && given !== null && !Array.isArray(given);
  return z.preprocess((given) => (isMap(given) ? Object.entries(given) : given), pairs.default([]));
}

/** The LoRA shape, in PEFT's terms and with PEFT's rules; see docs/training.md. */
export const loraSchema = z
  .strictObject({
    /** @default 16 */
    rank: rank.default(16),
    /** Scaling is alpha / rank, or alpha / √rank with `useRslora`. @default 32 */
    alpha: alpha.default(32),
    /** "all-linear", a list of module names, or a regular expression that matches whole module names. */
    targets: z.union([modulePattern, moduleNames.min(1)]).default('all-linear'),
    /** Modules left out of the targets: a list or a regular expression, by the same rules. @default [] */
    excludeModules: z.union([modulePattern, moduleNames]).default([]),
    /** Numbers of the blocks whose modules are adapted; empty means all. @default [] */
    layersToTransform: z.array(z.int().nonnegative().max(1023)).max(1024).default([]),
    /** Other ranks by a pattern that matches the end of a module's name; the first that matches wins. @default {} */
    rankPattern: byPattern(rank),
    /** Other alphas, likewise. @default {} */
    alphaPattern: byPattern(alpha),
    /** Rank-stabilised scaling. @default false */
    useRslora: z.boolean().default(false),
    /** Weight-decomposed LoRA: direction and magnitude apart. @default false */
    useDora: z.boolean().default(false),
    /** Share of the inputs of A that a training step sets to zero. @default 0 */
    dropout: z.number().min(0).lt(1).default(0),
    /** Modules trained whole, as copies that are kept in the adapter. @default [] */
    modulesToSave: moduleNames.max(64).default([]),
    /** Biases trained: none, all of the model, or those of the adapted modules. @default "none" */
    bias: z.enum(['none', 'all', 'lora_only']).default('none'),
    /** Only B is trained; A keeps its random start. @default false */
    freezeA: z.boolean().default(false),
    /** true: A uniform in ±1/√in, B zero; "gaussian": A normal, B zero; false: both random. @default true */
    initLoraWeights: z.union([z.boolean(), z.literal('gaussian')]).default(true),
  })
  .superRefine(({ targets, layersToTransform }, context) => {
    const isPattern = typeof targets === 'string' && targets.toLowerCase() !== 'all-linear';
    if (isPattern && layersToTransform.length > 0)
      context.addIssue({
        code: 'custom',
        path: ['layersToTransform'],
        message: 'goes with a list of targets; a pattern of targets names its layers itself',
      });
  });

/** Kinds of adapter tensors that may decay, as `AdapterTensor.group` has them. Biases never do. */
const decayGroupSchema = z.enum(['A', 'B', 'magnitude', 'saved']);

/** Local optimisation on each node: AdamW, measured in optimiser steps of `batchSize` rows. */
export const trainingSchema = z.strictObject({
  /** @default 1e-3 */
  learningRate: z.number().positive().max(1).default(1e-3),
  /** How the rate goes on after the warm-up. @default "constant" */
  schedule: z.enum(['constant', 'linear', 'cosine']).default('constant'),
  /** A line or cosine ends at this share of the learning rate. @default 0.1 */
  finalFraction: z.number().min(0).max(1).default(0.1),
  /** Optimiser steps of linear rise, counted over all of a node's rounds. @default 20 */
  warmupSteps: z.int().nonnegative().max(1_000_000).default(20),
  /** The same as a share of all steps; where it is given it counts, not `warmupSteps`. @default null */
  warmupRatio: z.number().min(0).max(1).nullable().default(null),
  betas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).default([0.9, 0.95]),
  epsilon: z.number().positive().max(1).default(1e-8),
  weightDecay: z.number().min(0).max(1).default(0),
  /** Tensors that decay; those of one dimension among "saved" (norms, biases) never do. @default A, B and saved */
  weightDecayGroups: z.array(decayGroupSchema).max(4).default(['A', 'B', 'saved']),
  /** LoRA+: the rate of B (and of vectors) is this many times that of A. @default 1 */
  loraPlusRatio: z.number().positive().max(1000).default(1),
  /** NEFTune: noise on the embeddings of up to alpha / √(tokens of a row · width), in training only. @default 0 */
  neftuneAlpha: z.number().min(0).max(1000).default(0),
  /** Share of each target that is spread over the whole vocabulary, in training only. @default 0 */
  labelSmoothing: z.number().min(0).lt(1).default(0),
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
    /** Commit on the hub that the base came from, whose name is then the hub's; absent where it came from a folder. */
    revision: z
      .string()
      .regex(/^[0-9a-f]{40}$/, 'must be a commit')
      .optional(),
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
      .max(BASE_FILES)
      // Each becomes a file of one folder, and many file systems do not tell case apart.
      .refine(
        (files) => new Set(files.map(({ path }) => path.toLowerCase())).size === files.length,
        'must have a name for each file',
      ),
  }),
  data: z.strictObject({
    rows: count,
    tokens: z.int().nonnegative(),
    sequenceLength: count,
    shards: z
      .array(
        z.strictObject({ digest: digestSchema, size: z.int().positive().max(DATA_SHARD_BYTES), rows: count }),
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
