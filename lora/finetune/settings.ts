/** What a run of `swarm train` is told, from whichever place, in the terms of a job file. */

import { z } from 'zod';
import { commonError } from '../../common/common-errors.ts';
import { specProblems } from '../../common/schema-problems.ts';
import { loraSchema, trainingSchema } from '../../protocol/manifest.ts';
import { deviceNames, ENGINE_NAMES } from '../engines/names.ts';
import { PRECISIONS } from '../engines/precision.ts';
import { BASE_BITS } from '../models/base-bits.ts';
import type { ComputeInput, ComputeOnDevices } from '../train/compute.ts';
import { PRESETS } from '../train/presets.ts';
import { shareBatch } from '../train/shared-batch.ts';
import { jobSpecSchema } from './job-spec.ts';

/** What only a machine alone is told; in a swarm the rounds and the coordinator decide these. */
export const runSchema = z.strictObject({
  /** Optimiser steps; null: as the epochs give. @default null */
  steps: z.int().positive().max(100_000_000).nullable().default(null),
  /** Passes over the data, where no steps are given. @default 1 */
  epochs: z.number().positive().max(1_000_000).default(1),
  /** Optimiser steps between two measurements of the held-out loss; 0: only before and after. @default 0 */
  evaluateEvery: z.int().nonnegative().max(100_000_000).default(0),
  /** Measurements without improvement after which training stops; null: never. @default null */
  patience: z.int().positive().max(1_000_000).nullable().default(null),
  /** By less than this the held-out loss does not count as improved, nats per token. @default 0 */
  minDelta: z.number().min(0).max(100).default(0),
  /** Which adapter the output holds at the end, where the held-out loss was measured on the way. @default "best" */
  final: z.enum(['best', 'last']).default('best'),
  /** Optimiser steps between two checkpoints; 0: only when interrupted, at a new best, and at the end. @default 100 */
  checkpointEvery: z.int().nonnegative().max(100_000_000).default(100),
  /** Newest checkpoints that stay; the best stays in any case. @default 2 */
  keepCheckpoints: z.int().positive().max(10_000).default(2),
});
export type RunOptions = z.output<typeof runSchema>;

/** Everything that a run is told. Paths are absolute. */
export const trainSpecSchema = z.strictObject({
  base: jobSpecSchema.shape.base,
  data: jobSpecSchema.shape.data.extend({
    /** Files to measure the loss on, or the share of the examples that is kept out of training; null: none. @default null */
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

/** How long a run is over data of so many rows. The last batch of whole epochs may be a smaller one. */
export function lengthOf({ run, training }: Pick<TrainSpec, 'run' | 'training'>, dataRows: number) {
  if (run.steps !== null) return { steps: run.steps, rows: Number.POSITIVE_INFINITY };
  const rows = Math.max(1, Math.round(dataRows * run.epochs));
  return { steps: Math.ceil(rows / training.batchSize), rows };
}

/** What one place says: a config file, the flags, a preset, or the checkpoint that a run goes on from. */
export interface Layer {
  base?: string;
  data?: Record<string, unknown>;
  preset?: string | null;
  lora?: Record<string, unknown>;
  training?: Record<string, unknown>;
  run?: Record<string, unknown>;
  seed?: number;
}

/** Key by key; later layers win, and what they leave undefined they do not say. */
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
 * Fills in the defaults. Where only the rank is given, alpha is twice the rank; rows pass through the model all at once
 * unless said otherwise.
 * @throws SwarmError USAGE (values: field, problems)
 */
export function resolveSpec(layer: Layer): TrainSpec {
  const { rank } = { ...layer.lora };
  const { batchSize, microBatch = batchSize } = { ...layer.training };
  const filled = mergeLayers(
    {
      lora: { alpha: typeof rank === 'number' ? 2 * rank : undefined },
      training: { microBatch },
    },
    layer,
  );
  const result = trainSpecSchema.safeParse(filled);
  if (!result.success) {
    const problems = specProblems(trainSpecSchema, filled, result.error.issues);
    throw commonError('USAGE', problems.map(({ text }) => text).join('; '), {
      field: problems[0]!.field,
      problems: problems.map(({ text }) => text),
    });
  }
  const { training } = result.data;
  const spec = {
    ...result.data,
    training: { ...training, microBatch: Math.min(training.microBatch, training.batchSize) },
  };
  checkRun(spec);
  return spec;
}

/**
 * Rows at a time for devices that share each batch, where nobody said how many: who names them means them, and in a run that
 * goes on they stay, as dropout's random numbers follow from them.
 *
 * @param layer what `spec` was filled up from
 * @returns `reason` null where nothing was changed
 */
export function shareRows(
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
      'there is no held-out text to evaluate on',
      {},
      { next: 'name some with --held-out, or leave out --evaluate-every' },
    );
  }
  if (run.patience !== null && run.evaluateEvery === 0) {
    throw commonError(
      'USAGE',
      'patience counts measurements of the held-out loss, and none are made',
      {},
      { next: 'add --evaluate-every STEPS' },
    );
  }
}

const deviceNumber = z.int().nonnegative().optional();

/** What a checkpoint knows of its run: the settings, and by their digests what they were applied to. */
export const runSettingsSchema = z.strictObject({
  spec: trainSpecSchema,
  totalSteps: z.int().positive(),
  engine: z.enum(ENGINE_NAMES),
  /** Which of several devices of the engine. */
  device: deviceNumber,
  /** Devices that take part of each batch. Older checkpoints do not say. @default none */
  alongside: z.array(z.strictObject({ engine: z.enum(ENGINE_NAMES), device: deviceNumber })).default([]),
  threads: z.int().positive(),
  /** Runs of before this setting had 32. */
  baseBits: z.literal(BASE_BITS).default(32),
  /** Of products with the base. @default 'float32' */
  precision: z.enum(PRECISIONS).default('float32'),
  /** Whether the forward pass is computed twice: as it was asked for. Runs of before `auto` had what they say. @default false */
  checkpointing: z.union([z.boolean(), z.literal('auto')]).default(false),
  /** Digests of the base model, and of all that the packed rows come of. */
  base: z.string(),
  rows: z.string(),
  heldOut: z.string().nullable(),
  /** Of the first start, milliseconds since 1970: the day that a chat template may print, also after a resume. */
  startedAt: z.int().nonnegative(),
});
export type RunSettings = z.output<typeof runSettingsSchema>;

/** The keys of `RunSettings` that say how a run is computed. */
export function storedCompute({ devices, threads, baseBits, precision, checkpointing }: ComputeOnDevices) {
  const [{ engine, device }, ...alongside] = devices;
  return { engine, device, alongside, threads, baseBits, precision, checkpointing };
}

/** How the run of a checkpoint was computed. */
export function computeInputOf(settings: RunSettings): ComputeInput {
  const { engine, device, alongside, threads, baseBits, precision, checkpointing } = settings;
  const names = deviceNames([{ engine, device }, ...alongside]);
  return { engine: names, threads, baseBits, precision, gradientCheckpointing: checkpointing };
}

/**
 * May be changed from one start to the next: they decide what is kept or how long it goes on, not what is computed; and on
 * which devices, whose results are the same but for rounding.
 */
const FREE = new Set([
  'spec.run.steps',
  'spec.run.epochs',
  'spec.run.checkpointEvery',
  'spec.run.keepCheckpoints',
  'spec.run.final',
  'totalSteps',
  'engine',
  'device',
  'alongside',
  'threads',
  'checkpointing',
]);
/** Where things lie does not matter, only what they are: the digests are compared. */
const PLACES = ['spec.base', 'spec.data.train', 'spec.data.heldOut'];

export interface Difference {
  /** As in a config file: "training.learningRate". */
  field: string;
  before: unknown;
  now: unknown;
}

/**
 * What a resumed run is told otherwise than the one it goes on with. Of float16 only products are made: adapter and moments
 * are float32 whatever the precision, so a run that does not fit into float16 may go on without, and nothing of it but the
 * loss scale is left behind. The other way a run would be made less exact unasked.
 */
export function differences(before: RunSettings, now: RunSettings): Difference[] {
  const old = flatten(before);
  const fresh = flatten(now);
  const found: Difference[] = [];
  for (const path of new Set([...old.keys(), ...fresh.keys()])) {
    if (FREE.has(path) || PLACES.includes(path) || old.get(path) === fresh.get(path)) continue;
    if (path === 'precision' && now.precision === 'float32') continue;
    const name = path.replace(/^spec\./, '');
    const field = { base: 'the base model', rows: 'the data', heldOut: 'the held-out text' }[path] ?? name;
    found.push({ field, before: parse(old.get(path)), now: parse(fresh.get(path)) });
  }
  return found;
}

/** Path → JSON of the value; lists are values. */
function flatten(value: object, prefix = ''): Map<string, string> {
  const flat = new Map<string, string>();
  for (const [key, inner] of Object.entries(value)) {
    const path = `${prefix}${key}`;
    if (!isBlock(inner)) flat.set(path, JSON.stringify(inner));
    else for (const [deeper, json] of flatten(inner, `${path}.`)) flat.set(deeper, json);
  }
  return flat;
}

function parse(json: string | undefined): unknown {
  return json === undefined ? null : JSON.parse(json);
}

function isBlock(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function defined(block: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(block).filter(([, value]) => value !== undefined));
}
