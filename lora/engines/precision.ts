import { engineError } from './errors.ts';
import type { EngineChoice } from './names.ts';

/** Precisions of products with the frozen base. Each machine chooses; a job does not. */
export const PRECISIONS = ['float32', 'float16'] as const;
export type Precision = (typeof PRECISIONS)[number];

/** Engines with float16 kernels. Whether a device has float16 too is found out by trying (float16.ts). */
export const FLOAT16_ENGINES: readonly EngineChoice[] = ['onnx-cuda', 'onnx-webgpu'];

/** @throws SwarmError PRECISION for float16 on an engine without float16 kernels */
export function requirePrecision(precision: Precision, engine: EngineChoice): void {
  // `auto` chooses an engine with float16 or fails (lora/train/choose.ts).
  if (precision === 'float32' || engine === 'auto') return;
  if (FLOAT16_ENGINES.includes(engine)) return;
  throw engineError(
    'PRECISION',
    `${engine} does not compute in float16`,
    { precision, engine },
    { next: `use --engine ${FLOAT16_ENGINES.join(' or ')}, or --precision float32` },
  );
}
