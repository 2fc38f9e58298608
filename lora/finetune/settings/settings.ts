/** Settings of a fine-tuning run on one machine: the keys of a job file, and a block `run`. */

import { z } from 'zod';
import { commonError } from '../../../common/common-errors.ts';
import { specProblems } from '../../../common/schema-problems.ts';
import { loraSchema, trainingSchema } from '../../../protocol/job/manifest.ts';
import { type TrainingConfig, trainingConfigSchema } from '../../train/config.ts';
import { shareBatch } from '../../train/devices/shared-batch.ts';
import { PRESETS, type PresetName } from '../../train/presets.ts';
import { isBlock, withAlpha, withinBatch } from './derived.ts';
import { jobSpecSchema } from './job-spec.ts';

/** Settings of a run on one machine. In a swarm, the rounds and the coordinator decide these settings. */
export const runSchema = z.strictObject({
  /** Number of optimiser steps; null for as many steps as the epochs need. @default null */
  steps: z.int().positive().max(100_000_000).nullable().default(null),
  /** Number of passes over the data. It counts only if `steps` is null. @default 1 */
  epochs: z.number().positive().max(1_000_000).default(1),
  /**
   * Number of optimiser steps between two measurements of the held-out loss. With 0, the loss is measured
   * only before and after the run.
   * @default 0
   */
  evaluateEvery: z.int().nonnegative().max(100_000_000).default(0),
  /**
   * Number of consecutive measurements without improvement that end the run; null if the run never
   * ends early.
   * @default null
   */
  patience: z.int().positive().max(1_000_000).nullable().default(null),
  /** Smallest decrease of the held-out loss that counts as an improvement, in nats per token. @default 0 */
  minDelta: z.number().min(0).max(100).default(0),
  /**
   * The adapter that is written to the output: "best" for the adapter with the lowest held-out loss, or
   * "last". If the loss was not measured during training, the last adapter is written. @default "best"
   */
  final: z.enum(['best', 'last']).default('best'),
  /**
   * Number of optimiser steps between checkpoints. A checkpoint is also written at every new best loss, on an
   * interruption and at the end. With 0, only these checkpoints are written. @default 100
   */
  checkpointEvery: z.int().nonnegative().max(100_000_000).default(100),
  /** Number of newest checkpoints to keep, in addition to the best one. @default 2 */
  keepCheckpoints: z.int().positive().max(10_000).default(2),
});

/** All settings, with defaults filled in. Paths are absolute. */
export const trainSpecSchema = z.strictObject({
  base: jobSpecSchema.shape.base,
  data: jobSpecSchema.shape.data.extend({
    /** Files to measure the loss on, or the share of the examples that is held out; null for neither. @default null */
    heldOut: z
      .union([z.number().gt(0).lt(1), z.array(z.string().min(1)).min(1)])
      .nullable()
      .default(null),
  }),
  preset: z.enum(PRESETS).nullable().default(null),
  lora: loraSchema.prefault({}),
  training: trainingSchema.prefault({}),
  run: runSchema.prefault({}),
  seed: jobSpecSchema.shape.seed,
});
export type TrainSpec = z.output<typeof trainSpecSchema>;

/** Returns the steps and rows of a run over data of `dataRows` rows. The last batch may be smaller. */
export function lengthOf({ run, training }: Pick<TrainSpec, 'run' | 'training'>, dataRows: number) {
  if (run.steps !== null) return { steps: run.steps, rows: Number.POSITIVE_INFINITY };
  const rows = Math.max(1, Math.round(dataRows * run.epochs));
  return { steps: Math.ceil(rows / training.batchSize), rows };
}

/** Returns the settings of the trainer for data of `dataRows` rows. */
export function trainingConfig(spec: TrainSpec, dataRows: number): TrainingConfig {
  const { training, seed } = spec;
  return trainingConfigSchema.parse({ ...training, totalSteps: lengthOf(spec, dataRows).steps, seed });
}

/** Settings from one source: a config file, the flags, a preset, or a checkpoint. */
export interface Layer {
  base?: string;
  data?: Record<string, unknown>;
  preset?: string | null;
  lora?: Record<string, unknown>;
  training?: Record<string, unknown>;
  run?: Record<string, unknown>;
  seed?: number;
}

/**
 * Settings as a program passes them. Their keys are the keys of a config file (docs/training.md), and all of them are
 * optional.
 */
export type FinetuneSettings = {
  /** Folder of a base in Hugging Face layout, or `ORG/NAME[@REVISION]` on the hub. */
  readonly base?: string;
  /** Data files, and how they are read, rendered and packed. */
  readonly data?: Partial<z.input<typeof trainSpecSchema.shape.data>>;
  /** Preset that chooses the settings that are not given; null for the defaults. @default null */
  readonly preset?: PresetName | null;
  /** Shape of the adapter. */
  readonly lora?: z.input<typeof loraSchema>;
  /** Settings of the optimiser, the batch and the rows. */
  readonly training?: z.input<typeof trainingSchema>;
  /** Length of the run, its evaluations and its checkpoints. */
  readonly run?: z.input<typeof runSchema>;
  /** Seed of the initial adapter, the held-out examples and the order of rows. @default 0 */
  readonly seed?: number;
};

/** Merges layers of settings key by key. A value of a later layer overrides earlier values, unless it is undefined. */
export function mergeLayers(...layers: readonly Layer[]): Layer {
  const merged: Record<string, unknown> = {};
  for (const layer of layers) {
    for (const [key, value] of Object.entries(layer)) {
      if (value === undefined) continue;
      merged[key] = isBlock(value) ? { ...(merged[key] as object), ...defined(value) } : value;
    }
  }
  return merged;
}

/**
 * Fills in the defaults. If a rank is given, alpha defaults to twice the rank. The micro-batch defaults to the whole
 * batch.
 * @throws SwarmError USAGE (values: field, problems)
 */
export function resolveSpec(layer: Layer): TrainSpec {
  const { batchSize, microBatch = batchSize } = { ...layer.training };
  const merged = mergeLayers({ training: { microBatch } }, layer);
  const filled = { ...merged, lora: withAlpha(merged.lora) };
  const result = trainSpecSchema.safeParse(filled);
  if (!result.success) {
    const problems = specProblems(trainSpecSchema, filled, result.error.issues);
    const texts = problems.map(({ text }) => text);
    throw commonError(
      'USAGE',
      texts.join('; '),
      { field: problems[0]!.field, problems: texts },
      { next: 'correct these settings (docs/training.md)' },
    );
  }
  const spec = { ...result.data, training: withinBatch(result.data.training) };
  checkRun(spec);
  return spec;
}

/**
 * Shrinks a default micro-batch so that every device gets a part of each batch. A micro-batch that the user set stays.
 * The micro-batch of a resumed run stays too, because dropout's random numbers depend on it.
 *
 * @param layer the settings before defaults were filled in. `spec` is the result with defaults.
 * @returns `reason`: why the micro-batch was shrunk; null if it was not
 */
export function shareMicroBatch(
  layer: Layer,
  spec: TrainSpec,
  devices: number,
): { spec: TrainSpec; reason: string | null } {
  if (layer.training?.microBatch !== undefined) return { spec, reason: null };
  const { microBatch, reason } = shareBatch(spec.training, devices);
  return { spec: { ...spec, training: { ...spec.training, microBatch } }, reason };
}

function checkRun({ data, run }: TrainSpec): void {
  if (run.evaluateEvery > 0 && data.heldOut === null) {
    throw commonError(
      'USAGE',
      'evaluateEvery is set, but there is no held-out data to measure the loss on',
      {},
      { next: 'add --held-out, or leave out --evaluate-every' },
    );
  }
  if (run.patience !== null && run.evaluateEvery === 0) {
    throw commonError(
      'USAGE',
      'patience is set, but the held-out loss is not measured during training',
      {},
      { next: 'add --evaluate-every STEPS' },
    );
  }
}

function defined(block: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(block).filter(([, value]) => value !== undefined));
}
