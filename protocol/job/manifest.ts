import { z } from 'zod';
import { digestSchema, nameSchema, peerIdSchema } from '../ids.ts';
import {
  ADAPTER_BYTES,
  BASE_FILES,
  BASE_PARAMETERS,
  BLOB_BYTES,
  CHAT_TEMPLATE_CHARACTERS,
  DATA_ROWS,
  DATA_SHARD_BYTES,
  DATA_SHARDS,
  SEQUENCE_TOKENS,
} from '../limits.ts';

const count = z.int().positive();

/** A reference to a blob. The blob is fetched by digest and verified against it. A blob of another size is refused. */
export const blobRefSchema = z.strictObject({
  digest: digestSchema,
  size: z.int().nonnegative().max(BLOB_BYTES),
});
/** The digest and size of a blob. */
export type BlobRef = z.infer<typeof blobRefSchema>;

/**
 * Maximum number of names or patterns in a list. A PEFT configuration may list every module, and the largest Llama has
 * 882 linear modules.
 */
const MODULES = 1024;
/** Module paths or their last parts: 'q_proj', 'self_attn.q_proj', 'lm_head'. */
const moduleNames = z.array(z.string().min(1).max(256)).max(MODULES);
/** A regular expression over module paths. */
const modulePattern = z.string().min(1).max(1024);
/**
 * Maximum rank in a job or an adapter file. With a higher rank, LoRA would cost more than the layers that it adapts.
 */
const rank = count.max(1024);
const alpha = z.number().positive().max(65536);

/**
 * Returns the schema of [pattern, value] pairs, which job files write as a map. They are stored as pairs because the
 * first matching pattern wins, and canonical CBOR would sort the keys of a map.
 */
function byPattern<T extends z.ZodType>(value: T) {
  const pairs = z.array(z.tuple([modulePattern, value])).max(MODULES);
  const isMap = (given: unknown): given is object =>
    typeof given === 'object' && given !== null && !Array.isArray(given);
  return z.preprocess((given) => (isMap(given) ? Object.entries(given) : given), pairs.default([]));
}

/** Settings of the adapter, with the names and rules of PEFT; see docs/training.md. */
export const loraSchema = z
  .strictObject({
    /** @default 16 */
    rank: rank.default(16),
    /** Scaling is alpha / rank, or alpha / √rank with `useRslora`. @default twice the rank */
    alpha: alpha.default(32),
    /** "all-linear", a list of module names, or a regular expression over whole module paths. @default "all-linear" */
    targets: z.union([modulePattern, moduleNames.min(1)]).default('all-linear'),
    /** Modules excluded from the targets: a list of names or a regular expression, as in `targets`. @default [] */
    excludeModules: z.union([modulePattern, moduleNames]).default([]),
    /** Indices of the blocks whose modules are adapted. An empty list stands for all blocks. @default [] */
    layersToTransform: z.array(z.int().nonnegative().max(1023)).max(1024).default([]),
    /**
     * A rank for each pattern. A pattern matches the end of a module path. The first matching pattern wins.
     * @default {}
     */
    rankPattern: byPattern(rank),
    /** An alpha for each pattern. Patterns match as in `rankPattern`. @default {} */
    alphaPattern: byPattern(alpha),
    /** Rank-stabilised scaling. @default false */
    useRslora: z.boolean().default(false),
    /** Weight-decomposed LoRA (DoRA): direction and magnitude are trained separately. @default false */
    useDora: z.boolean().default(false),
    /** Share of A's inputs that a training step sets to zero. @default 0 */
    dropout: z.number().min(0).lt(1).default(0),
    /** Saved modules, which are trained as a whole. The adapter contains their trained copies. @default [] */
    modulesToSave: moduleNames.max(64).default([]),
    /** Trained biases: none, all biases of the model, or the biases of the adapted modules. @default "none" */
    bias: z.enum(['none', 'all', 'lora_only']).default('none'),
    /** Whether only B is trained, while A keeps its initial values. @default false */
    freezeA: z.boolean().default(false),
    /**
     * Initial values of the matrices A and B. With `true`, A is uniform in ±1/√in, and B is zero. With
     * "gaussian", A is normal, and B is zero. With `false`, both matrices are random.
     * @default true
     */
    initLoraWeights: z.union([z.boolean(), z.literal('gaussian')]).default(true),
  })
  .superRefine(({ targets, layersToTransform }, context) => {
    const isPattern = typeof targets === 'string' && targets.toLowerCase() !== 'all-linear';
    if (isPattern && layersToTransform.length > 0)
      context.addIssue({
        code: 'custom',
        path: ['layersToTransform'],
        message: 'needs targets as a list, because a pattern already selects the layers',
      });
  });

/** Parameter groups that can have weight decay (`AdapterTensor.group`). Biases never have weight decay. */
const decayGroupSchema = z.enum(['A', 'B', 'magnitude', 'saved']);

/** Training on each node: AdamW, in optimiser steps of `batchSize` rows. */
export const trainingSchema = z.strictObject({
  /** @default 1e-3 */
  learningRate: z.number().positive().max(1).default(1e-3),
  /** Course of the learning rate after the warm-up. @default "constant" */
  schedule: z.enum(['constant', 'linear', 'cosine']).default('constant'),
  /** The schedules "linear" and "cosine" end at this fraction of `learningRate`. @default 0.1 */
  finalFraction: z.number().min(0).max(1).default(0.1),
  /** Number of optimiser steps of linear warm-up, counted over all rounds of a node. @default 20 */
  warmupSteps: z.int().nonnegative().max(1_000_000).default(20),
  /** Warm-up as a share of all steps; overrides `warmupSteps` if given. @default null */
  warmupRatio: z.number().min(0).max(1).nullable().default(null),
  betas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).default([0.9, 0.95]),
  epsilon: z.number().positive().max(1).default(1e-8),
  weightDecay: z.number().min(0).max(1).default(0),
  /** Groups with weight decay, except one-dimensional tensors of "saved" (norms, biases). @default A, B, saved */
  weightDecayGroups: z.array(decayGroupSchema).max(4).default(['A', 'B', 'saved']),
  /** LoRA+: learning rate of B (and of one-dimensional tensors), divided by the learning rate of A. @default 1 */
  loraPlusRatio: z.number().positive().max(1000).default(1),
  /** NEFTune: uniform noise on embeddings, up to alpha / √(tokens per row · width), in training only. @default 0 */
  neftuneAlpha: z.number().min(0).max(1000).default(0),
  /** Share of each target's probability that is spread over the whole vocabulary, in training only. @default 0 */
  labelSmoothing: z.number().min(0).lt(1).default(0),
  /** Maximum global norm of the gradient. A larger gradient is scaled down to this norm. @default 1 */
  clipNorm: z.number().positive().max(1e6).default(1),
  /** Number of rows per optimiser step. @default 8 */
  batchSize: count.max(4096).default(8),
  /**
   * Number of rows that pass through the model at once. Gradients accumulate over the batch. In a job, the default is 8
   * or the whole batch, whichever is smaller. @default the whole batch
   */
  microBatch: count.max(4096).default(8),
  /** Tokens per row. @default 128 */
  sequenceLength: count.min(8).max(SEQUENCE_TOKENS).default(128),
});

/** Compression presets of updates; see lora-swarm/update. */
export const presetSchema = z.enum(['tiny', 'balanced', 'quality', 'dense']);

/** Settings of the rounds, and of the merge of their updates. */
export const roundsSchema = z.strictObject({
  /** Number of checkpoints after which the job is finished. @default 8 */
  count: count.max(1_000_000).default(8),
  /**
   * Number of optimiser steps of the fastest node in a round. Slower nodes make fewer steps, but at least a
   * third as many.
   * @default 20
   */
  localSteps: count.max(10_000).default(20),
  /**
   * Minimum number of nodes to open a round, and minimum number of updates to merge. With fewer updates, the round is a
   * null round.
   * @default 2
   */
  minPeers: count.max(512).default(2),
  /** Share of the assigned nodes whose updates are enough to close a round before its deadline. @default 0.6 */
  quorum: z.number().gt(0).max(1).default(0.6),
  /**
   * Maximum duration of a round, in seconds. After the first rounds, the coordinator knows how long updates take, and
   * usually sets an earlier deadline.
   * @default 600
   */
  maxSeconds: z.number().positive().max(86_400).default(600),
  /** "auto" means "dense" with fewer than four nodes, else "balanced". @default "auto" */
  preset: z.union([presetSchema, z.literal('auto')]).default('auto'),
  /** Factor by which a node multiplies its error feedback in each round. @default 0.5 */
  errorFeedbackDecay: z.number().min(0).max(1).default(0.5),
  /**
   * For each value of the adapter, the merge averages the updates that contain this value, by their weights. The
   * divisor of this average is at least `denominatorFloor` times the weight of all updates, so a few updates alone do
   * not move a value by their full step. @default 0.25
   */
  denominatorFloor: z.number().min(0).max(1).default(0.25),
  /** Outer rate: the factor by which a merge is multiplied before it is subtracted from the adapter. @default 1 */
  outerRate: z.number().positive().max(10).default(1),
});

/** Rules by which the gate decides whether a merged adapter becomes the next checkpoint. */
export const acceptanceSchema = z.strictObject({
  /**
   * Maximum increase of the held-out loss with which a merge passes, as a share of the loss. A larger increase also
   * passes if it is at most two standard errors, and at most 2.5 times this value or 0.005, whichever is more. All
   * other limits of the gate are also multiples of this value (docs/workflow.md). @default 0.002
   */
  tolerance: z.number().min(0).max(1).default(0.002),
  /** Held-out rows that the gate evaluates in each round; 0 means all. @default 64 */
  heldOutRows: z.int().nonnegative().max(1_000_000).default(64),
});

/** The definition of a job, signed by its coordinator. The digest of its canonical CBOR is the job's identity. */
export const manifestSchema = z.strictObject({
  version: z.literal(1),
  name: nameSchema,
  /**
   * Peer id of the coordinator that signs the manifest, so that the digest of a job stands for its coordinator too.
   * Absent in jobs that an older coordinator created.
   */
  coordinator: peerIdSchema.optional(),
  base: z.strictObject({
    name: z.string().min(1).max(200),
    /** Commit of the hub repository `name`; absent if the base came from a folder. */
    revision: z
      .string()
      .regex(/^[0-9a-f]{40}$/, 'must be a commit')
      .optional(),
    digest: digestSchema,
    parameters: count.max(BASE_PARAMETERS),
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
      // All files go into one folder, and many file systems ignore case. Names must therefore differ in more
      // than case.
      .refine(
        (files) => new Set(files.map(({ path }) => path.toLowerCase())).size === files.length,
        'must have distinct names',
      ),
  }),
  data: z.strictObject({
    rows: count.max(DATA_ROWS),
    tokens: z.int().nonnegative(),
    sequenceLength: count.max(SEQUENCE_TOKENS),
    shards: z
      .array(
        z.strictObject({
          digest: digestSchema,
          size: z.int().positive().max(DATA_SHARD_BYTES),
          rows: count.max(DATA_ROWS),
        }),
      )
      .min(1)
      .max(DATA_SHARDS),
    /**
     * Digest and size of the held-out data. The coordinator keeps the data itself secret. The digest shows that the
     * coordinator has not replaced the data since the job was created.
     */
    heldOut: z.strictObject({ digest: digestSchema, rows: count, tokens: z.int().nonnegative() }),
    /**
     * Chat template of the data. It is absent if the data uses the base's own template, or if the base has no
     * template and the data needs none.
     */
    chatTemplate: z.string().max(CHAT_TEMPLATE_CHARACTERS).optional(),
  }),
  lora: loraSchema,
  adapter: z.strictObject({
    parameters: count.max(ADAPTER_BYTES / 4),
    /** Digest of the adapter that round 1 starts from. */
    initial: z.strictObject({ digest: digestSchema, size: z.int().positive().max(ADAPTER_BYTES) }),
  }),
  training: trainingSchema,
  rounds: roundsSchema,
  acceptance: acceptanceSchema,
  seed: z.int().nonnegative().max(0xffffffff),
  createdAt: z.int().nonnegative(),
});
/** The definition of a job, as {@link manifestSchema} checks it. */
export type Manifest = z.infer<typeof manifestSchema>;
