import { z } from 'zod';
import { specProblems } from '../../../common/schema-problems.ts';
import { adapterNameSchema, peerIdSchema } from '../../../protocol/ids.ts';
import {
  acceptanceSchema,
  loraSchema,
  roundsSchema,
  trainingSchema,
} from '../../../protocol/job/manifest.ts';
import { dataSettingsSchema } from '../../data/settings.ts';
import { PRESETS } from '../../train/presets.ts';
import { finetuneError } from '../errors.ts';
import { isBlock, withAlpha, withinBatch } from './derived.ts';

const path = z.string().min(1).max(4096).describe('a path');
/** Files, folders or glob patterns; see `dataFiles`. */
const paths = z.union([path, z.array(path).min(1).max(10_000).describe('a list of paths')]);

/** Maximum number of prompts, because people read all continuations, and each takes seconds to generate. */
const MAX_SAMPLES = 8;
const MAX_PROMPT_CHARACTERS = 2_000;
const MAX_SAMPLE_TOKENS = 256;

const jobTasksSchema = z.strictObject({
  /** Task files, with the keys of lm-evaluation-harness (docs/evaluation.md). */
  files: paths,
  /** Evaluates every n-th checkpoint, and the last one. @default 1 */
  every: z.int().positive().max(1_000_000).default(1),
  /**
   * Metric that decides which checkpoint is the best: `TASK.METRIC` or `TASK.METRIC,FILTER`.
   * @default null: the held-out loss decides
   */
  metric: z.string().min(1).max(256).nullable().default(null),
  /** Number of documents of each task to evaluate. @default null: all documents */
  limit: z.int().positive().nullable().default(null),
});

const jobSamplesSchema = z.strictObject({
  /** Texts that the model continues. @default [] */
  prompts: z.array(z.string().min(1).max(MAX_PROMPT_CHARACTERS)).max(MAX_SAMPLES).default([]),
  /** Whether each prompt is a message of a user, which the chat template of the data renders. @default false */
  chat: z.boolean().default(false),
  /**
   * Number of held-out rows whose beginnings are prompts. The samples show these beginnings.
   * @default null: 3 if `admission` is "open" and there are no `prompts`, otherwise 0
   */
  heldOut: z.int().nonnegative().max(MAX_SAMPLES).nullable().default(null),
  /** Samples every n-th checkpoint, and the last one. @default 5 */
  every: z.int().positive().max(1_000_000).default(5),
  /** Maximum number of tokens of each continuation. @default 64 */
  maxTokens: z.int().positive().max(MAX_SAMPLE_TOKENS).default(64),
});

/** A job as its operator writes it, in YAML or JSON. */
export const jobSpecSchema = z.strictObject({
  name: adapterNameSchema,
  /** Folder of the base model, in Hugging Face layout. */
  base: path,
  /**
   * Adapter to start from: a PEFT folder, or a version in the registry of this machine (NAME, NAME:TAG, NAME:vN). LoRA
   * settings and the chat template are taken from the adapter if the file does not set them. null for a new adapter.
   * @default null
   */
  start: path.nullable().default(null),
  data: z.strictObject({
    train: paths,
    /** Separate held-out files, or the share of the examples that is kept out of training. @default 0.1 */
    heldOut: z.union([z.number().gt(0).lt(1), paths]).default(0.1),
    ...dataSettingsSchema.shape,
  }),
  /**
   * Preset that chooses, when the job is created, the settings of `lora` and `training` that the file does not set.
   * @default null
   */
  preset: z.enum(PRESETS).nullable().default(null),
  lora: loraSchema.prefault({}),
  training: trainingSchema.prefault({}),
  rounds: roundsSchema.prefault({}),
  acceptance: acceptanceSchema.prefault({}),
  /** Tasks on which the coordinator evaluates checkpoints. @default null: none */
  tasks: jobTasksSchema.nullable().default(null),
  /** Prompts that the base and checkpoints continue, for people to compare. @default null: none */
  samples: jobSamplesSchema.nullable().default(null),
  /**
   * Peers that may join: all ("open"), peers with the job's invite ("invite"), or a list of peer ids. @default "open"
   */
  admission: z
    .union([
      z.literal('open'),
      z.literal('invite'),
      z.array(peerIdSchema).min(1).max(4096).describe('a list of peer ids'),
    ])
    .default('open'),
  /** Seed of the initial adapter and of the choice of held-out examples. @default 0 */
  seed: z.int().nonnegative().max(0xffffffff).default(0),
});

export type JobSpec = z.output<typeof jobSpecSchema>;
/** A job as its operator writes it: the keys of a job file. Only `name`, `base` and `data.train` are required. */
export type JobSpecInput = z.input<typeof jobSpecSchema>;

/**
 * Checks a job specification, and fills in the defaults. If a rank is given, alpha defaults to twice the rank. A
 * micro-batch that is larger than the batch becomes the whole batch. Refuses an unknown key with an error that names the
 * key which was probably meant.
 * @throws SwarmError JOB_SPEC (values: field, problems)
 */
export function parseJobSpec(value: unknown): JobSpec {
  const filled = isBlock(value) ? { ...value, lora: withAlpha(value.lora) } : value;
  const result = jobSpecSchema.safeParse(filled);
  if (result.success) return { ...result.data, training: withinBatch(result.data.training) };
  const problems = specProblems(jobSpecSchema, value, result.error.issues);
  throw finetuneError(
    'JOB_SPEC',
    `the job specification is wrong: ${problems.map(({ text }) => text).join('; ')}`,
    {
      field: problems[0]!.field,
      problems: problems.map(({ text }) => text),
    },
  );
}
