/** What a job over this data would give to each of its nodes. */
import { packedRowBytes, type RowSize, rowsPerShard } from '../shards/cut-shards.ts';

export interface NodeShare {
  nodes: number;
  /** Of each node in one pass over the data, where all are equally fast. */
  rows: number;
  trainedTokens: number;
  /** All packed data, as shards that nodes fetch. */
  shards: number;
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
