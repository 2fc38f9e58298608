/** Settings for computing a model: devices, number formats and memory. They are set on each machine, never by a job. */
import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { commonError } from '../../common/common-errors.ts';
import { checkOptions } from '../../common/schema-problems.ts';
import { engineError } from '../engines/errors.ts';
import { type Device, deviceNames, ENGINE_CHOICE_LIST, ENGINE_NAMES } from '../engines/names.ts';
import { PRECISIONS, type Precision, requirePrecision } from '../engines/precision.ts';
import { BASE_BITS, type BaseBits, requireBaseBits } from '../models/base/base-bits.ts';

/** The devices of a trainer; at least one. */
export type Devices = readonly [Device, ...Device[]];

/** Settings for computing a model on one machine. */
export interface Compute {
  /**
   * Devices that share each batch. The first device makes the optimiser steps. With `auto`, a single device is used,
   * with the fastest engine.
   * @default 'auto'
   */
  readonly devices: Devices | 'auto';
  /** Number of threads of the engine, for each device. @default all hardware threads */
  readonly threads: number;
  /** Bits of a weight in the base's linear modules. @default 32 */
  readonly baseBits: BaseBits;
  /** Precision of matrix products with the base's weights. @default 'float32' */
  readonly precision: Precision;
  /**
   * Whether to use gradient checkpointing. The results are the same, bit for bit. `auto` turns gradient
   * checkpointing on if memory is short.
   * @default 'auto'
   */
  readonly checkpointing: boolean | 'auto';
  /**
   * Bytes of the machine's memory that training may take. @default Infinity, so that all available memory may be used
   */
  readonly memoryLimit: number;
}

/** A `Compute` whose devices are known. */
export type ComputeOnDevices = Compute & { readonly devices: Devices };

/** A `Compute` in which nothing is `auto`. */
export type ResolvedCompute = ComputeOnDevices & { readonly checkpointing: boolean };

const DEFAULTS: Omit<Compute, 'threads'> = {
  devices: 'auto',
  baseBits: 32,
  precision: 'float32',
  checkpointing: 'auto',
  memoryLimit: Number.POSITIVE_INFINITY,
};

/** The part of a `Compute` that flags, a config file, the environment or a checkpoint can set. */
const computeInputSchema = z.object({
  /** `auto`, or devices separated by commas: "onnx-cuda:0,onnx-cuda:1". */
  engine: z
    .string()
    .refine(namesDevices, `must be ${ENGINE_CHOICE_LIST}, or several devices with commas between them`),
  threads: z.int().min(1).max(1024),
  baseBits: z.literal(BASE_BITS),
  precision: z.enum(PRECISIONS),
  gradientCheckpointing: z.union([z.boolean(), z.literal('auto')]),
});

/** Schemas of single settings. The schema of a config file uses them. */
export const {
  engine: engineSchema,
  baseBits: baseBitsSchema,
  precision: precisionSchema,
} = computeInputSchema.shape;

/**
 * Schema of the settings that a program may pass. It accepts any text as the engine, because `parseDevices`
 * has better messages for a wrong engine.
 */
const passedSchema = computeInputSchema.extend({ engine: z.string(), origin: z.string() }).partial().strict();

/** Requested settings for computing a model. A key that is left out or undefined has its default. */
export interface ComputeInput {
  /**
   * `auto` for the fastest engine that runs on this machine, or devices separated by commas: "onnx-cuda:0,onnx-cuda:1".
   * @default 'auto'
   */
  readonly engine?: string | undefined;
  /** Threads of the engine, for each device. @default all hardware threads, or one fewer in a node */
  readonly threads?: number | undefined;
  /** Bits of a weight in the base's linear modules: 32, 8 or 4. @default 32 */
  readonly baseBits?: BaseBits | undefined;
  /** Precision of matrix products with the base's weights. @default 'float32' */
  readonly precision?: Precision | undefined;
  /**
   * Whether to use gradient checkpointing. The results are the same, bit for bit. `auto` turns gradient
   * checkpointing on if memory is short.
   * @default 'auto'
   */
  readonly gradientCheckpointing?: boolean | 'auto' | undefined;
  /** Name of the place where `engine` was set, for error messages, such as "SWARM_ENGINE". */
  readonly origin?: string;
}

/** Merges settings from several places. Each key gets its value from the first input that sets it. */
export function mergeComputeInputs(...inputs: readonly ComputeInput[]): ComputeInput {
  const first = <Key extends keyof ComputeInput>(key: Key): ComputeInput[Key] =>
    inputs.find((input) => input[key] !== undefined)?.[key];
  const origin = inputs.find(({ engine }) => engine !== undefined)?.origin;
  return {
    engine: first('engine'),
    threads: first('threads'),
    baseBits: first('baseBits'),
    precision: first('precision'),
    gradientCheckpointing: first('gradientCheckpointing'),
    ...(origin !== undefined && { origin }),
  };
}

/**
 * Merges settings from several places into one `Compute`. Each key gets its value from the first input that sets it.
 * @throws SwarmError ENGINE_UNKNOWN, USAGE, BASE_BITS, PRECISION
 */
export function parseCompute(...inputs: readonly ComputeInput[]): Compute {
  for (const input of inputs) checkOptions(passedSchema, input);
  const input = mergeComputeInputs(...inputs);
  const compute: Compute = {
    devices: parseDevices(input.engine ?? 'auto', input.origin),
    threads: input.threads ?? availableParallelism(),
    baseBits: input.baseBits ?? DEFAULTS.baseBits,
    precision: input.precision ?? DEFAULTS.precision,
    checkpointing: input.gradientCheckpointing ?? DEFAULTS.checkpointing,
    memoryLimit: DEFAULTS.memoryLimit,
  };
  checkCompute(compute);
  return compute;
}

/**
 * Parses settings as {@link parseCompute} does, for work that uses one device.
 * @throws SwarmError USAGE for several devices; the errors of parseCompute
 */
export function parseOneDevice(...inputs: readonly ComputeInput[]): Compute {
  const compute = parseCompute(...inputs);
  const { devices } = compute;
  if (devices === 'auto' || devices.length === 1) return compute;
  throw commonError(
    'USAGE',
    `evaluating and generating use one device, not ${devices.length}: ${deviceNames(devices)}`,
    { devices: devices.length },
    { next: 'name one device, such as onnx-cpu or onnx-cuda:1' },
  );
}

/**
 * Returns the default `Compute` on the processor, with `change` applied. No setting of the result is `auto`.
 */
export function processorCompute(change: Partial<ResolvedCompute> = {}): ResolvedCompute {
  const threads = change.threads ?? availableParallelism();
  return { ...DEFAULTS, devices: [{ engine: 'onnx-cpu' }], checkpointing: false, ...change, threads };
}

/**
 * @throws SwarmError BASE_BITS or PRECISION for a device whose engine does not support the base bits or the precision
 */
export function checkCompute({ devices, baseBits, precision }: Compute): void {
  // `auto` needs no check, because it chooses an engine that supports the base bits and the precision.
  if (devices === 'auto') return;
  for (const { engine } of devices) {
    requireBaseBits(baseBits, engine);
    requirePrecision(precision, engine);
  }
}

/** @throws SwarmError ENGINE_UNKNOWN; USAGE for a device number with an engine that has only one device */
function parseDevices(text: string, origin?: string): Compute['devices'] {
  if (text === 'auto') return 'auto';
  const [first, ...others] = text.split(',').map((name) => parseDevice(name, origin));
  return [first!, ...others];
}

function namesDevices(text: string): boolean {
  try {
    parseDevices(text);
    return true;
  } catch {
    return false;
  }
}

function parseDevice(text: string, origin: string | undefined): Device {
  const from = origin === undefined ? '' : ` (from ${origin})`;
  const [name, number, ...more] = text.split(':');
  const engine = ENGINE_NAMES.find((known) => known === name);
  if (text === 'auto') {
    throw engineError(
      'ENGINE_UNKNOWN',
      `auto chooses a single device, so it cannot be combined with other devices${from}`,
      { name: text },
      { next: 'name every device, or use auto alone' },
    );
  }
  if (engine === undefined || more.length > 0 || !/^(\d{1,3})?$/.test(number ?? '') || number === '') {
    throw engineError(
      'ENGINE_UNKNOWN',
      `unknown engine "${text}"${from}`,
      { name: text },
      {
        next: `${suggestion(text)}choose ${ENGINE_CHOICE_LIST}; "lora-swarm doctor" shows which engines run on this machine`,
      },
    );
  }
  if (number === undefined) return { engine };
  if (engine === 'onnx-cuda') return { engine, device: Number(number) };
  throw commonError(
    'USAGE',
    `${engine} has no numbered devices: "${text}"${from}`,
    { name: text },
    { next: `write ${engine} without a number, because only onnx-cuda numbers its devices` },
  );
}

/** Returns "did you mean onnx-cuda? " if the text is part of exactly one engine's name, else an empty text. */
function suggestion(text: string): string {
  const [name] = text.toLowerCase().split(':') as [string];
  const similar = name === '' ? [] : ENGINE_NAMES.filter((known) => known.includes(name));
  return similar.length === 1 ? `did you mean ${similar[0]}? ` : '';
}
