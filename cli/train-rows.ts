import { packDocuments, predictedTokens, type Row } from '../lora/data/packing.ts';
import { Random } from '../lora/data/random.ts';
import { readDocuments } from '../lora/data/text.ts';
import type { TextTokenizer } from '../lora/data/tokenizer.ts';
import { SwarmError } from '../protocol/errors.ts';

/** Text files as packed rows, with the number of tokens that they predict. @throws DATA_EMPTY and as readDocuments */
export async function packFiles(
  paths: readonly string[],
  tokenizer: TextTokenizer,
  { sequenceLength, signal }: { sequenceLength: number; signal: AbortSignal },
): Promise<{ rows: Row[]; tokens: number }> {
  const rows: Row[] = [];
  let tokens = 0;
  for await (const row of packDocuments(readDocuments(paths, { signal }), tokenizer, { sequenceLength })) {
    rows.push(row);
    tokens += predictedTokens(row);
  }
  if (rows.length === 0) {
    throw new SwarmError('DATA_EMPTY', `there is no text to train on in ${paths.join(', ')}`, { paths });
  }
  return { rows, tokens };
}

/** Rows without end, each epoch in another order; the same seed gives the same order. */
export function* epochs(rows: readonly Row[], seed: number): Generator<Row, never, undefined> {
  for (let epoch = 0; ; epoch++) yield* new Random(seed, epoch).shuffle([...rows]);
}
