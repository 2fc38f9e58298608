import { packedRowBytes, type RowSize, rowsPerShard } from '../shards/cut-shards.ts';

/** The share of each node in a job over this data, if all nodes are equally fast. */
export interface NodeShare {
  nodes: number;
  /** Rows per node in one pass over the data. */
  rows: number;
  /** Supervised tokens per node in one pass over the data. */
  trainedTokens: number;
  /** Data shards of the whole job. */
  shards: number;
  /** Upper bound on the size of all data shards together, bytes. */
  bytes: number;
}

export function nodeShare(
  { rows, trainedTokens }: { rows: number; trainedTokens: number },
  { nodes, ...size }: RowSize & { nodes: number },
): NodeShare {
  return {
    nodes,
    rows: Math.ceil(rows / nodes),
    trainedTokens: Math.ceil(trainedTokens / nodes),
    shards: Math.ceil(rows / rowsPerShard(size)),
    bytes: rows * packedRowBytes(size),
  };
}
