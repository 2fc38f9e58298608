import fc from 'fast-check';
import type { UpdateLayout } from '../../../lora/update/index.ts';

/** Returns a seeded random generator, uniform in [0, 1) (Marsaglia, "Xorshift RNGs", 2003), so that tests can be replayed. */
export function randomSource(seed: number): () => number {
  let state = (seed | 0) ^ 0x9e3779b9 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Distributions of a test tensor's values. Each is a hard case for one step of the encoder. */
export const VALUE_KINDS = ['normal', 'heavy', 'sparse', 'equal', 'ties', 'zero', 'minute'] as const;
export type ValueKind = (typeof VALUE_KINDS)[number];

function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

export function randomValues(size: number, kind: ValueKind, seed: number): Float32Array {
  const random = randomSource(seed);
  const draw: Record<ValueKind, () => number> = {
    normal: () => 1e-3 * normal(random),
    heavy: () => (1e-3 * normal(random)) / Math.max(1e-3, Math.abs(normal(random))),
    sparse: () => (random() < 0.01 ? normal(random) : 0),
    equal: () => (random() < 0.5 ? 0.125 : -0.125),
    ties: () => Math.round(4 * normal(random)) / 4,
    zero: () => (random() < 0.5 ? 0 : -0),
    minute: () => 1e-14 * normal(random),
  };
  return Float32Array.from({ length: size }, draw[kind]);
}

export function layoutOf(sizes: readonly number[]): UpdateLayout {
  return sizes.map((size, position) => ({ name: `tensor${position}`, shape: [size] }));
}

/** Layouts of one to three tensors, including single values, full chunks and remainders of any length. */
export const layouts = fc
  .array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 41, max: 9000 }), fc.constant(4096)), {
    minLength: 1,
    maxLength: 3,
  })
  .map(layoutOf);

/** Random layouts, each with values for its tensors. */
export const tensorSets = fc
  .tuple(layouts, fc.constantFrom(...VALUE_KINDS), fc.integer())
  .map(([layout, kind, seed]) => ({
    layout,
    tensors: layout.map(({ shape }, position) => randomValues(shape[0]!, kind, seed + position)),
  }));
