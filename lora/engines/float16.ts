import { Graph } from '../graph/graph.ts';
import { matmul } from '../graph/ops.ts';
import { engineError } from './errors.ts';
import { FLOAT16_ENGINES } from './precision.ts';
import { runOnce } from './run-once.ts';
import type { Engine } from './types.ts';

/**
 * Computes a matrix product in float16 to find out whether the device supports float16. Some devices lack float16 (on
 * WebGPU, the feature "shader-f16"), and no call reports whether a device has it.
 * @throws SwarmError PRECISION when the device does not support float16
 */
export async function requireFloat16(engine: Engine): Promise<void> {
  const graph = new Graph();
  const x = graph.input('x', [2, 2]);
  graph.output('y', matmul(x, x, { float16: true }));
  try {
    await runOnce(engine, graph, { x: Float32Array.of(1, 2, 3, 4) });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw engineError(
      'PRECISION',
      `the device of ${engine.name} does not compute in float16: ${reason}`,
      { engine: engine.name, reason },
      { next: 'use --precision float32', cause: error },
    );
  }
}

/** Returns whether both the engine and its device compute in float16. */
export async function hasFloat16(engine: Engine): Promise<boolean> {
  if (!FLOAT16_ENGINES.includes(engine.name)) return false;
  return requireFloat16(engine).then(
    () => true,
    () => false,
  );
}
