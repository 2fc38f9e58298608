import type { EngineChoice } from '../engines/names.ts';
import { modelError } from './errors.ts';

/** Bits of a weight of the base's linear modules while it is computed with: a choice of each machine, never of a job. */
export const BASE_BITS = [32, 8, 4] as const;
export type BaseBits = (typeof BASE_BITS)[number];

/** A weight of a linear module: of fewer bits as W and as Wᵀ, at 4 bits with a scale for 32 of each (see quantise.ts). */
const BYTES_PER_WEIGHT: Readonly<Record<BaseBits, number>> = { 32: 4, 8: 2, 4: 1.25 };

/**
 * Bytes of a base in memory of which only the number of parameters is known. At 32 bits exact. Of fewer bits all count as
 * linear modules, although embedding and output head take 1 byte: for published models that is up to 18 % too much at 8
 * bits and up to 7 % at 4. `weightFileBytes` knows it exactly, from a model's config.
 */
export function estimatedBaseBytes(parameters: number, bits: BaseBits): number {
  return BYTES_PER_WEIGHT[bits] * parameters;
}

/** Whether an engine computes with a base of so many bits. */
export function supportsBaseBits(bits: BaseBits, engine: EngineChoice): boolean {
  return bits === 32 || engine !== 'tfjs';
}

/** @throws SwarmError BASE_BITS for fewer bits on an engine that does not compute with them */
export function requireBaseBits(bits: BaseBits, engine: EngineChoice): void {
  if (supportsBaseBits(bits, engine)) return;
  throw modelError(
    'BASE_BITS',
    `${engine} does not compute with a base of ${bits} bits; take another engine, or --base-bits 32`,
    { bits, engine },
  );
}
