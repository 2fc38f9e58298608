import type { Engine, Feeds, WeightFile } from '../../../lora/engines/engine.ts';
import type { Graph } from '../../../lora/graph/graph.ts';

/** Runs a graph once on each engine. */
export async function runOnEach(
  engines: readonly Engine[],
  graph: Graph,
  feeds: Feeds,
  weights: WeightFile | null = null,
): Promise<Record<string, Float32Array>[]> {
  const results: Record<string, Float32Array>[] = [];
  for (const engine of engines) {
    const executable = await engine.compile(graph, weights);
    try {
      results.push(await executable.run(feeds));
    } finally {
      await executable.dispose();
    }
  }
  return results;
}

/** Returns the largest |a − b| / max(1, |b|) over all outputs; infinity if outputs or sizes differ or a value is NaN. */
export function disagreement(
  found: Readonly<Record<string, Float32Array>>,
  expected: Readonly<Record<string, Float32Array>>,
): number {
  const names = Object.keys(expected);
  if (Object.keys(found).sort().join('\n') !== names.sort().join('\n')) return Number.POSITIVE_INFINITY;
  let worst = 0;
  for (const name of names) {
    const [ours, theirs] = [found[name]!, expected[name]!];
    if (ours.length !== theirs.length) return Number.POSITIVE_INFINITY;
    for (const [i, value] of theirs.entries()) {
      const difference = Math.abs(ours[i]! - value) / Math.max(1, Math.abs(value));
      if (Number.isNaN(difference)) return Number.POSITIVE_INFINITY;
      worst = Math.max(worst, difference);
    }
  }
  return worst;
}
