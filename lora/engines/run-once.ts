import type { Graph } from '../graph/graph.ts';
import type { Feeds } from './feeds.ts';
import type { Engine } from './types.ts';

/**
 * Compiles and runs a graph without weights once, to find out whether the device can run it. Then disposes of the
 * compiled graph, even after an error.
 * @throws the errors of compiling and running
 */
export async function runOnce(
  engine: Engine,
  graph: Graph,
  feeds: Feeds,
): Promise<Record<string, Float32Array>> {
  const executable = await engine.compile(graph, null);
  try {
    return await executable.run(feeds);
  } finally {
    await executable.dispose();
  }
}
