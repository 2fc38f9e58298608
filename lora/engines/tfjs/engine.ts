import { Graph } from '../../graph/graph.ts';
import { add } from '../../graph/ops.ts';
import { engineError } from '../errors.ts';
import { runOnce } from '../run-once.ts';
import type { Engine } from '../types.ts';
import { TENSOR_LIMIT, TfjsExecutable } from './executable.ts';
import type { TensorFlow } from './lower.ts';
import { WeightStore } from './weight-store.ts';

export interface TfjsOptions {
  /** Maximum number of tensors that this process creates; see {@link TENSOR_LIMIT}. @default TENSOR_LIMIT */
  tensorLimit?: number;
}

/**
 * Creates an engine on the current backend of `tf`. The engine calls only functions of tfjs-core.
 * @throws SwarmError ENGINE_UNAVAILABLE when the backend does not run a trivial graph
 */
export async function createTfjsEngine(
  tf: TensorFlow,
  { tensorLimit = TENSOR_LIMIT }: TfjsOptions = {},
): Promise<Engine> {
  // Outside production mode, a backend prints advice to install a faster backend.
  tf.enableProdMode();
  const store = new WeightStore(tf);
  const engine: Engine = {
    name: 'tfjs',
    compile: (graph, weights) => TfjsExecutable.compile(graph, weights, { tf, store, tensorLimit }),
  };
  await probe(tf, engine);
  // Only the backend of tfjs-node has this property. The other backends count as the processor.
  const { isUsingGpuDevice } = tf.backend() as { isUsingGpuDevice?: boolean };
  return { ...engine, onProcessor: isUsingGpuDevice !== true };
}

async function probe(tf: TensorFlow, engine: Engine): Promise<void> {
  const graph = new Graph();
  const x = graph.input('x', [1]);
  graph.output('y', add(x, x));
  try {
    await tf.ready();
    await runOnce(engine, graph, { x: Float32Array.of(1) });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw engineError(
      'ENGINE_UNAVAILABLE',
      `tfjs does not run on this machine: ${reason}`,
      { engine: 'tfjs', reason },
      { next: 'use --engine onnx-cpu, which runs on every machine', cause },
    );
  }
}
