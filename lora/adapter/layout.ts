import { createHash } from 'node:crypto';
import { SwarmError } from '../../protocol/errors.ts';
import type { Architecture, LinearModule } from '../models/architecture.ts';
import type { ModelConfig } from '../models/families.ts';
import { loraTensorName } from '../models/lora.ts';
import { matchTargets, type Targets } from '../models/targets.ts';
import { philox } from './random.ts';

/** One matrix of an adapter: `….lora_A.weight` of shape [r, in] or `….lora_B.weight` of shape [out, r]. */
export interface AdapterTensor {
  readonly name: string;
  readonly shape: readonly [number, number];
}

/** The tensors of an adapter sorted by name: the order in which every part of the system keeps their values. */
export type AdapterLayout = readonly AdapterTensor[];

export interface LoraConfig {
  /** r, columns of B and rows of A. */
  readonly rank: number;
  /** α; the product B A is scaled by α / r. */
  readonly alpha: number;
  readonly targets: Targets;
}

/** Highest rank taken from a job or an adapter file: above it LoRA costs more than the layers it adapts. */
export const MAX_RANK = 1024;

/** What a layout needs to know of a model. */
export interface ModelShape {
  readonly config: ModelConfig;
  readonly architecture: Architecture;
}

/** The modules of `model` that carry an adapter. */
export function adapterModules(model: ModelShape, lora: LoraConfig): LinearModule[] {
  return matchTargets(model.architecture.linearModules(model.config), lora.targets);
}

/**
 * @throws SwarmError LORA_TARGETS, LORA_RANK, LORA_ALPHA the configuration does not fit the model
 */
export function adapterLayout(model: ModelShape, lora: LoraConfig): AdapterLayout {
  const { rank, alpha } = lora;
  if (!Number.isInteger(rank) || rank < 1 || rank > MAX_RANK)
    throw new SwarmError(
      'LORA_RANK',
      `the LoRA rank is ${rank}, expected a whole number from 1 to ${MAX_RANK}`,
      {
        rank,
        limit: MAX_RANK,
      },
    );
  if (!Number.isFinite(alpha) || alpha <= 0)
    throw new SwarmError('LORA_ALPHA', `the LoRA alpha is ${alpha}, expected a positive number`, { alpha });
  const layout = adapterModules(model, lora).flatMap((module): AdapterTensor[] => [
    { name: loraTensorName(module.name, 'A'), shape: [rank, module.in] },
    { name: loraTensorName(module.name, 'B'), shape: [module.out, rank] },
  ]);
  return layout.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Number of values in an adapter. */
export function adapterSize(layout: AdapterLayout): number {
  return layout.reduce((sum, { shape }) => sum + shape[0] * shape[1], 0);
}

/**
 * PEFT's default start: A uniform in ±1/√in (Kaiming-uniform with a = √5), B zero, so that training starts
 * at the base exactly. Values depend on the seed, the tensor's name and the position alone: the same on
 * every machine, whatever other modules carry an adapter.
 *
 * @param seed whole number below 2^53
 * @returns values in layout order
 */
export function initAdapter(layout: AdapterLayout, seed: number): Float32Array[] {
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new SwarmError('SEED', `the seed is ${seed}, expected a whole number from 0 to 2^53 − 1`, { seed });
  const key = [seed >>> 0, Math.floor(seed / 2 ** 32)] as const;
  return layout.map(({ name, shape }) => {
    const values = new Float32Array(shape[0] * shape[1]);
    if (isB(name)) return values;
    const digest = createHash('sha256').update(name).digest();
    const stream = [digest.readUInt32LE(0), digest.readUInt32LE(4)] as const;
    const bound = 1 / Math.sqrt(shape[1]);
    for (let i = 0; i < values.length; i += 4) {
      const words = philox([i / 4, 0, stream[0], stream[1]], key);
      // The upper 24 bits, as many as a float32 holds, centred: never exactly ±bound.
      words.forEach((word, j) => {
        values[i + j] = bound * (((word >>> 8) + 0.5) / 2 ** 23 - 1);
      });
    }
    return values;
  });
}

export function isB(name: string): boolean {
  return name.endsWith('.lora_B.weight');
}
