import type { EngineName } from '../../engines/names.ts';
import { modelError } from '../errors.ts';

/**
 * Base bits: how many bits a weight of a linear module has in memory. The base bits are set on each machine; a job does
 * not prescribe them.
 */
export const BASE_BITS = [32, 8, 4] as const;
export type BaseBits = (typeof BASE_BITS)[number];

/**
 * Bytes of memory per weight of a linear module. Below 32 bits, a weight is stored twice, in W and in Wᵀ, because the
 * backward pass uses Wᵀ. At 4 bits, each copy also has one float32 scale per 32 weights (see quantise.ts).
 */
const BYTES_PER_WEIGHT: Readonly<Record<BaseBits, number>> = { 32: 4, 8: 2, 4: 1.25 };

/**
 * Estimates the bytes of a base in memory from its number of parameters. The estimate is exact at 32 bits. At 8 and 4
 * bits it counts every parameter as a weight of a linear module. A value of the embedding or output head takes only 1
 * byte, so the estimate for published models is up to 18 % too high at 8 bits, and up to 7 % at 4 bits.
 * `weightFileBytes` is exact but needs the model's config.
 */
export function estimatedBaseBytes(parameters: number, bits: BaseBits): number {
  return BYTES_PER_WEIGHT[bits] * parameters;
}

/** Returns the name of a base in messages, such as "an 8-bit base". */
export function baseText(bits: BaseBits): string {
  return `${bits === 8 ? 'an' : 'a'} ${bits}-bit base`;
}

/** Returns whether an engine can compute with these base bits. */
export function supportsBaseBits(bits: BaseBits, engine: EngineName): boolean {
  return bits === 32 || engine !== 'tfjs';
}

/** @throws SwarmError BASE_BITS if the engine cannot compute with these base bits */
export function requireBaseBits(bits: BaseBits, engine: EngineName): void {
  if (supportsBaseBits(bits, engine)) return;
  throw modelError('BASE_BITS', `${engine} cannot compute with ${baseText(bits)}`, { bits, engine });
}
