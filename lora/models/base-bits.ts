import { SwarmError } from '../../protocol/errors.ts';
import type { EngineChoice } from '../engines/names.ts';

/** Bits of a weight of the base's linear modules while it is computed with: a choice of each machine, never of a job. */
export const BASE_BITS = [32, 8, 4] as const;
export type BaseBits = (typeof BASE_BITS)[number];

/** Whether an engine computes with a base of so many bits. */
export function hasBaseBits(bits: BaseBits, engine: EngineChoice): boolean {
  return bits === 32 || engine !== 'tfjs';
}

/** @throws SwarmError BASE_BITS for fewer bits on an engine that does not compute with them */
export function requireBaseBits(bits: BaseBits, engine: EngineChoice): void {
  if (hasBaseBits(bits, engine)) return;
  throw new SwarmError(
    'BASE_BITS',
    `${engine} does not compute with a base of ${bits} bits; take another engine, or --base-bits 32`,
    { bits, engine },
  );
}
