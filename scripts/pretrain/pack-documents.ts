/** Packs plain token sequences and documents. Every token counts in the loss. */

import { OnlinePacker, type PackOptions } from '../../lora/data/packing/online-packer.ts';
import type { Row } from '../../lora/data/row.ts';
import type { TextTokenizer } from '../../lora/data/tokenizer.ts';

/**
 * Packs sequences in order and yields rows as they fill up. Each sequence must already have its special tokens.
 * Sequences of fewer than two tokens predict nothing and are left out.
 * @throws PACK_LENGTH if the row length is not an integer ≥ 2
 */
export function* packSequences(sequences: Iterable<readonly number[]>, options: PackOptions): Generator<Row> {
  const packer = new OnlinePacker(options);
  for (const sequence of sequences) yield* packer.add(sequence);
  yield* packer.finish();
}

/**
 * Tokenises and packs documents. Each document gets the special tokens that the tokenizer's config adds, and ends with
 * the end-of-text token. If the tokenizer adds a beginning-of-text token, later pieces of a document start with it too.
 */
export async function* packDocuments(
  documents: AsyncIterable<string> | Iterable<string>,
  tokenizer: TextTokenizer,
  { sequenceLength }: { sequenceLength: number },
): AsyncGenerator<Row, void, undefined> {
  const packer = new OnlinePacker({ sequenceLength, restart: tokenizer.prefix.at(-1) ?? null });
  for await (const document of documents) {
    const ids = tokenizer.encode(document);
    if (tokenizer.eosId !== null && ids.at(-1) !== tokenizer.eosId) ids.push(tokenizer.eosId);
    yield* packer.add(ids);
  }
  yield* packer.finish();
}

/** Returns all rows of `packDocuments` in memory. Suitable only for small data, such as held-out text. */
export async function packedRows(...arguments_: Parameters<typeof packDocuments>): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const row of packDocuments(...arguments_)) rows.push(row);
  return rows;
}
