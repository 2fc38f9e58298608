import type { Tensor } from '../graph/graph.ts';
import { elementCount, formatShape } from '../graph/shapes.ts';
import { engineError } from './errors.ts';

export type FeedData = Float32Array | BigInt64Array;

/** Values for all inputs of a graph, by name. Each value is a flat row-major array. */
export type Feeds = Readonly<Record<string, FeedData>>;

export interface BoundFeed {
  readonly name: string;
  readonly tensor: Tensor;
  readonly data: FeedData;
}

/**
 * Pairs the feeds of a run with the inputs of the graph.
 * @throws SwarmError ENGINE_FEED for a missing, unknown, wrongly typed or wrongly sized value
 */
export function bindFeeds(inputs: ReadonlyMap<string, Tensor>, feeds: Feeds): BoundFeed[] {
  for (const name of Object.keys(feeds)) {
    if (!inputs.has(name)) throw engineError('ENGINE_FEED', `the graph has no input ${name}`, { name });
  }
  return Array.from(inputs, ([name, tensor]) => {
    const data = feeds[name];
    const expected = `${tensor.dtype} ${formatShape(tensor.shape)}`;
    if (data === undefined) {
      throw engineError('ENGINE_FEED', `input ${name} (${expected}) got no value`, { name, expected });
    }
    const dtype = dtypeOf(data);
    if (dtype !== tensor.dtype || data.length !== elementCount(tensor.shape)) {
      throw engineError(
        'ENGINE_FEED',
        `input ${name} is ${expected}, but got ${data.length} values of ${dtype}`,
        { name, expected, found: { dtype, length: data.length } },
      );
    }
    return { name, tensor, data };
  });
}

/** Names the type of an array, even of one that TypeScript would reject, because callers may be plain JavaScript. */
function dtypeOf(data: FeedData): string {
  if (data instanceof Float32Array) return 'float32';
  return data instanceof BigInt64Array ? 'int64' : Object.prototype.toString.call(data);
}
