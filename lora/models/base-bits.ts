import { SwarmError } from '../../protocol/errors.ts';
import type { EngineChoice } from '../engines/names.ts';

/** Bits of a weight of the base's linear modules while it is computed with: a choice of each machine, never of a job. */
export const BASE_BITS = [32, 8, 4] as const;
export type BaseBits = (typeof BASE_BITS)[number];

/** @throws SwarmError BASE_BITS for fewer bits on an engine that has no kernels for them */
export function requireBaseBits(bits: BaseBits, engine: EngineChoice): void {
  if (bits === 32 || engine === 'onnx-cpu' || engine === 'auto') return;
  throw new SwarmError(
    'BASE_BITS',
    `${engine} does not compute with a base of ${bits} bits; take onnx-cpu, or a base of 32 bits`,
    { bits, engine },
  );
}
