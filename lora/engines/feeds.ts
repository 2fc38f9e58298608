import type { Tensor } from '../graph/graph.ts';
import { elementCount, formatShape } from '../graph/shapes.ts';
import { engineError } from './errors.ts';

export type FeedData = Float32Array | BigInt64Array;

/** A value for every input of a graph, by name: flat, row-major. */
export type Feeds = Readonly<Record<string, FeedData>>;

export interface BoundFeed {
  readonly name: string;
  readonly tensor: Tensor;
  readonly data: FeedData;
}

/**
 * The feeds of a run beside the inputs that they are for.
 * @throws SwarmError ENGINE_FEED for a missing, unknown, wrongly typed or wrongly sized value
 */
export function bindFeeds(inputs: ReadonlyMap<string, Tensor>, feeds: Feeds): BoundFeed[] {
  for (const name of Object.keys(feeds)) {
    if (!inputs.has(name))
      throw engineError('ENGINE_FEED', `${name} was fed, but the graph has no such input`, { name });
  }
  return Array.from(inputs, ([name, tensor]) => {
    const data = feeds[name];
    const expected = `${tensor.dtype} ${formatShape(tensor.shape)}`;
    if (data === undefined) {
      throw engineError('ENGINE_FEED', `no value was fed for ${name}, ${expected}`, { name, expected });
    }
    const dtype = dtypeOf(data);
    if (dtype !== tensor.dtype || data.length !== elementCount(tensor.shape)) {
      throw engineError(
        'ENGINE_FEED',
        `${name} needs ${expected}; ${data.length} values of ${dtype} were fed`,
        { name, expected, found: { dtype, length: data.length } },
      );
    }
    return { name, tensor, data };
  });
}

/** Feeds come from callers that may be plain JavaScript: another array type is named in the error. */
function dtypeOf(data: FeedData): string {
  if (data instanceof Float32Array) return 'float32';
  return data instanceof BigInt64Array ? 'int64' : Object.prototype.toString.call(data);
}
