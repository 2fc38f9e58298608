/** What a job over this data would give to each of its nodes. */
import { SHARD_BYTES } from '../../lora/data/packed.ts';

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
  { nodes, sequenceLength, vocabSize }: { nodes: number; sequenceLength: number; vocabSize: number },
): NodeShare {
  // Ids and labels take 2 bytes each with vocabularies below 65,535, else 4; segments take 2.
  const rowBytes = sequenceLength * (vocabSize < 0xffff ? 6 : 10);
  const bytes = rows * rowBytes;
  const perShard = Math.max(1, Math.floor(SHARD_BYTES / rowBytes));
  return {
    nodes,
    rows: Math.ceil(rows / nodes),
    trainedTokens: Math.ceil(trainedTokens / nodes),
    shards: Math.ceil(rows / perShard),
    bytes,
  };
}
