import { packedRowBytes, type RowSize, rowsPerShard } from '../shards/cut-shards.ts';

/** Amounts that each node of a job on this data trains and fetches, if all nodes are equally fast. */
export interface NodeShare {
  nodes: number;
  /** Number of packed rows per node in one pass over the data. */
  rows: number;
  /** Number of supervised tokens per node in one pass over the data. */
  trainedTokens: number;
  /** Number of data shards of the job. A node may have to fetch all of them. */
  shards: number;
  /** Upper bound on the size of all data shards together, in bytes. */
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
