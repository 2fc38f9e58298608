/** The settings of a run that a checkpoint stores, and which of them a resumed run may change. */
import { z } from 'zod';
import { deviceNames, ENGINE_NAMES } from '../../engines/names.ts';
import { PRECISIONS } from '../../engines/precision.ts';
import { BASE_BITS } from '../../models/base/base-bits.ts';
import type { ComputeInput, ComputeOnDevices } from '../../train/compute.ts';
import { isBlock } from './derived.ts';
import { trainSpecSchema } from './settings.ts';

const deviceNumber = z.int().nonnegative().optional();

/** Where the caller of a run publishes its adapter and its curves. A run only keeps these settings in its checkpoints. */
export interface Publication {
  /** Whether the adapter gets a version in a registry when the run ends. @default true */
  readonly publish?: boolean | undefined;
  /** Name of the adapter. @default the name of the output folder */
  readonly name?: string | undefined;
  /** Folder of the registry. @default the user's registry */
  readonly registry?: string | undefined;
  /** Folder to which the curves of the run are added for TensorBoard. @default none */
  readonly tensorboard?: string | undefined;
}

const publicationSchema: z.ZodType<Publication> = z.strictObject({
  publish: z.boolean().optional(),
  name: z.string().optional(),
  registry: z.string().optional(),
  tensorboard: z.string().optional(),
});

/** Settings in a checkpoint's JSON. Keys with a default are absent in older checkpoints. */
export const runSettingsSchema = z.strictObject({
  spec: trainSpecSchema,
  totalSteps: z.int().positive(),
  /** Engine of the first device. `device` is the number of this device. */
  engine: z.enum(ENGINE_NAMES),
  device: deviceNumber,
  /** Further devices, which share each batch with the first device. @default none */
  alongside: z.array(z.strictObject({ engine: z.enum(ENGINE_NAMES), device: deviceNumber })).default([]),
  threads: z.int().positive(),
  /** @default 32 */
  baseBits: z.literal(BASE_BITS).default(32),
  /** @default 'float32' */
  precision: z.enum(PRECISIONS).default('float32'),
  /** Gradient checkpointing, as the user set it. @default false, because releases without this key did not have it */
  checkpointing: z.union([z.boolean(), z.literal('auto')]).default(false),
  /** Digests of the base model, and of the packed rows. */
  base: z.string(),
  rows: z.string(),
  heldOut: z.string().nullable(),
  /**
   * The adapter that the run started from: the digest of its file as this program writes it, and the digest
   * of its version in a registry. null if the run started from a new adapter. @default null
   */
  start: z.strictObject({ digest: z.string(), version: z.string().nullable() }).nullable().default(null),
  /**
   * First start of the run, in milliseconds since 1970. Chat templates print the date of this time, even in a resumed
   * run.
   */
  startedAt: z.int().nonnegative(),
  publication: publicationSchema.optional(),
});
export type RunSettings = z.output<typeof runSettingsSchema>;

/** Converts a `Compute` to the keys of `RunSettings` in which a checkpoint stores it. */
export function storedCompute({ devices, threads, baseBits, precision, checkpointing }: ComputeOnDevices) {
  const [{ engine, device }, ...alongside] = devices;
  return { engine, device, alongside, threads, baseBits, precision, checkpointing };
}

/** Reads the `Compute` of a checkpoint, as input for `parseCompute`. */
export function computeInputOf(settings: RunSettings): ComputeInput {
  const { engine, device, alongside, threads, baseBits, precision, checkpointing } = settings;
  const names = deviceNames([{ engine, device }, ...alongside]);
  return { engine: names, threads, baseBits, precision, gradientCheckpointing: checkpointing };
}

/**
 * Settings that a resumed run may change: how long it trains, what it keeps, and which devices it uses. None of them
 * changes what a step computes, apart from rounding, which depends on the device.
 */
const CHANGEABLE = new Set([
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
  // A resumed run may start from another version that has the same adapter, because the adapter's digest (`start.digest`)
  // is compared.
  'start.version',
  'publication.publish',
  'publication.name',
  'publication.registry',
  'publication.tensorboard',
]);
/**
 * Settings that are paths. A resumed run may have other paths, because the digests of the content are
 * compared instead.
 */
const PATHS = ['spec.base', 'spec.data.train', 'spec.data.heldOut'];

export interface Difference {
  /**
   * Name of the setting, as in a config file: "training.learningRate". If the digest of data or of the base differs, this
   * is the setting with the path, such as "data.train".
   */
  field: string;
  before: unknown;
  now: unknown;
}

/**
 * Lists the settings that differ although a resumed run must not change them. The precision may change in only one way,
 * from float16 to float32. Adapter and moments are float32 either way, so a run that fails in float16 can continue in
 * float32, and loses only its loss scale. A change from float32 to float16 would silently make the run less exact.
 */
export function differences(before: RunSettings, now: RunSettings): Difference[] {
  const old = flatten(before);
  const fresh = flatten(now);
  const found: Difference[] = [];
  for (const path of new Set([...old.keys(), ...fresh.keys()])) {
    if (CHANGEABLE.has(path) || PATHS.includes(path) || old.get(path) === fresh.get(path)) continue;
    if (path === 'precision' && now.precision === 'float32') continue;
    const name = path.replace(/^spec\./, '');
    const field = { rows: 'data.train', heldOut: 'data.heldOut' }[path] ?? name;
    found.push({ field, before: parse(old.get(path)), now: parse(fresh.get(path)) });
  }
  return found;
}

/** Returns the JSON of each value in an object, by the value's path, such as `spec.run.steps`. A list is one value. */
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
