import { Graph } from '../../graph/graph.ts';
import { add } from '../../graph/ops.ts';
import { engineError } from '../errors.ts';
import { runOnce } from '../run-once.ts';
import type { Engine } from '../types.ts';
import { TfjsExecutable } from './executable.ts';
import type { TensorFlow } from './lower.ts';
import { WeightStore } from './weight-store.ts';

/**
 * An engine on the backend that `tf` has chosen; everything it does goes through tfjs-core's functions.
 * @throws SwarmError ENGINE_UNAVAILABLE when that backend does not run a trivial graph
 */
export async function createTfjsEngine(tf: TensorFlow): Promise<Engine> {
  // Otherwise backends advertise each other on the terminal.
  tf.enableProdMode();
  const store = new WeightStore(tf);
  const engine: Engine = {
    name: 'tfjs',
    compile: (graph, weights) => TfjsExecutable.compile(graph, weights, { tf, store }),
  };
  await probe(tf, engine);
  return engine;
}

async function probe(tf: TensorFlow, engine: Engine): Promise<void> {
  const graph = new Graph();
  const x = graph.input('x', [1]);
  graph.output('y', add(x, x));
  try {
    await tf.ready();
    await runOnce(engine, graph, { x: Float32Array.of(1) });
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw engineError(
      'ENGINE_UNAVAILABLE',
      `tfjs does not run on this machine: ${message}; onnx-cpu runs everywhere`,
      { engine: 'tfjs' },
      { cause },
    );
  }
}
