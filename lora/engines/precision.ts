import { engineError } from './errors.ts';
import type { EngineChoice } from './names.ts';

/** What products with the frozen base are computed in: a choice of each machine, never of a job. */
export const PRECISIONS = ['float32', 'float16'] as const;
export type Precision = (typeof PRECISIONS)[number];

/** Engines with kernels for it; whether a device has it is found out by trying (float16.ts). */
export const FLOAT16_ENGINES: readonly EngineChoice[] = ['onnx-cuda', 'onnx-webgpu'];

/** @throws SwarmError PRECISION for float16 on an engine that does not compute in it */
export function requirePrecision(precision: Precision, engine: EngineChoice): void {
  // `auto` takes one that has it, or says that there is none.
  if (precision === 'float32' || engine === 'auto') return;
  if (FLOAT16_ENGINES.includes(engine)) return;
  throw engineError(
    'PRECISION',
    `${engine} has no products in float16; take ${FLOAT16_ENGINES.join(' or ')}, or --precision float32`,
    { precision, engine },
  );
}
