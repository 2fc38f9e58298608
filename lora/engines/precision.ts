import { engineError } from './errors.ts';
import type { EngineName } from './names.ts';

/** Number formats of matrix products with the frozen base's weights. */
export const PRECISIONS = ['float32', 'float16'] as const;
export type Precision = (typeof PRECISIONS)[number];

/**
 * Engines with float16 kernels. Only a test run shows whether a device also supports float16 (float16.ts).
 */
export const FLOAT16_ENGINES: readonly EngineName[] = ['onnx-cuda', 'onnx-webgpu'];

/** @throws SwarmError PRECISION for float16 on an engine without float16 kernels */
export function requirePrecision(precision: Precision, engine: EngineName): void {
  if (precision === 'float32' || FLOAT16_ENGINES.includes(engine)) return;
  throw engineError(
    'PRECISION',
    `${engine} cannot compute in float16`,
    { precision, engine },
    { next: `use ${FLOAT16_ENGINES.join(' or ')}, or --precision float32` },
  );
}
