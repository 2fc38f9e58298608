/**
 * Token sequences cut and packed into rows of one fixed length, without losing or repeating a prediction.
 *
 * A sequence s0 … sm has the predictions s1 … sm. They are cut into pieces of at most the row length; each
 * piece keeps the token before it as context (or a fresh beginning-of-text token, see `PackOptions.restart`).
 * Pieces shorter than a row share rows, each as its own segment: attention and positions restart there.
 */

import { dataError } from './errors.ts';
import type { TextTokenizer } from './tokenizer.ts';

/** Label of a position that is not trained or scored; the value that Hugging Face uses. */
export const IGNORED_LABEL = -100;

/** One training example of T positions. */
export interface Row {
  /** [T] input tokens; 0 in padding. */
  readonly ids: Uint32Array;
  /** [T] 1, 2, … for the packed pieces from left to right; 0 in padding. */
  readonly segments: Uint16Array;
  /** [T] the token after each input token, already shifted; `IGNORED_LABEL` where nothing is predicted. */
  readonly labels: Int32Array;
}

export interface PackOptions {
  /** T, tokens per row. */
  sequenceLength: number;
  /**
   * First input token of every piece of a sequence after the first: a model that always saw a
   * beginning-of-text token wants one there. null: the token before the piece. @default null
   */
  restart?: number | null;
}

/** Open rows that wait for a fitting piece. More of them pack tighter and cost memory and time. */
const OPEN_ROWS = 256;
/** Pieces of one row: what `Row.segments` can number. Only rows of more tokens than this can meet it. */
export const MAX_PIECES = 0xffff;

/** Up to a row's length of input tokens, and the token after each (or `IGNORED_LABEL`). */
export interface Piece {
  readonly ids: readonly number[];
  readonly labels: readonly number[];
}

/**
 * Packs sequences, each complete with its special tokens, in order; rows come out as they fill up. Best fit:
 * a piece goes into the fullest open row that takes it. Sequences of fewer than two tokens predict nothing and
 * are left out. @throws PACK_LENGTH when the row length is not an integer ≥ 2.
 */
export function* packSequences(sequences: Iterable<readonly number[]>, options: PackOptions): Generator<Row> {
  const packer = new Packer(options);
  for (const sequence of sequences) yield* packer.add(sequence);
  yield* packer.finish();
}

/**
 * Tokenises and packs documents: special tokens as the tokenizer's config adds them, and its end-of-text token
 * after each document. Pieces restart with the beginning-of-text token where the tokenizer adds one.
 */
export async function* packDocuments(
  documents: AsyncIterable<string> | Iterable<string>,
  tokenizer: TextTokenizer,
  { sequenceLength }: { sequenceLength: number },
): AsyncGenerator<Row, void, undefined> {
  const packer = new Packer({ sequenceLength, restart: tokenizer.prefix.at(-1) ?? null });
  for await (const document of documents) {
    const ids = tokenizer.encode(document);
    if (tokenizer.eosId !== null && ids.at(-1) !== tokenizer.eosId) ids.push(tokenizer.eosId);
    yield* packer.add(ids);
  }
  yield* packer.finish();
}

/** All rows of `packDocuments` in memory: for data that is small, such as held-out text. */
export async function packedRows(...arguments_: Parameters<typeof packDocuments>): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const row of packDocuments(...arguments_)) rows.push(row);
  return rows;
}

/**
 * Rows come from other machines; engines may read past a table when an id lies outside of it.
 * @throws ROW_TOKEN when an id or label is not below `vocabulary`
 */
export function checkTokens({ ids, labels }: Row, vocabulary: number): void {
  const bad = ids.find((id) => id >= vocabulary) ?? labels.find((label) => label >= vocabulary);
  if (bad !== undefined) {
    throw dataError(
      'ROW_TOKEN',
      `a row holds token ${bad}, the model knows ${vocabulary}; pack the data with this model's tokenizer`,
      { token: bad, vocabulary },
    );
  }
}

/** Number of predicted tokens in a row. */
export function predictedTokens(row: Row): number {
  let count = 0;
  for (const label of row.labels) if (label !== IGNORED_LABEL) count++;
  return count;
}

/** A row of padding: fills up the last micro-batch. */
export function emptyRow(sequenceLength: number): Row {
  return {
    ids: new Uint32Array(sequenceLength),
    segments: new Uint16Array(sequenceLength),
    labels: new Int32Array(sequenceLength).fill(IGNORED_LABEL),
  };
}

/** @throws PACK_LENGTH when a row is too short for a prediction with context */
export function checkRowLength(sequenceLength: number): void {
  if (Number.isInteger(sequenceLength) && sequenceLength >= 2) return;
  throw dataError('PACK_LENGTH', `rows of ${sequenceLength} tokens cannot be packed; at least 2`, {
    sequenceLength,
  });
}

interface OpenRow {
  readonly pieces: Piece[];
  free: number;
}

/** Packs pieces in the order in which they come: best fit among the rows that are open. */
export class Packer {
  readonly #length: number;
  readonly #restart: number | null;
  readonly #open = new Set<OpenRow>();

  constructor({ sequenceLength, restart = null }: PackOptions) {
    checkRowLength(sequenceLength);
    this.#length = sequenceLength;
    this.#restart = restart;
  }

  *add(sequence: readonly number[]): Generator<Row> {
    const length = this.#length;
    const restart = this.#restart;
    for (const piece of cutSequence(sequence, null, { length, restart })) yield* this.addPiece(piece);
  }

  *addPiece(piece: Piece): Generator<Row> {
    const size = piece.ids.length;
    const row = this.#tightest(size) ?? { pieces: [], free: this.#length };
    if (row.pieces.length === 0) this.#open.add(row);
    row.pieces.push(piece);
    row.free -= size;
    if (row.free === 0 || row.pieces.length === MAX_PIECES) yield this.#close(row);
    else if (this.#open.size > OPEN_ROWS) yield this.#close(this.#tightest(0)!);
  }

  *finish(): Generator<Row> {
    for (const row of this.#open) yield this.#close(row);
  }

  /** The open row with the least room that takes `size` more tokens; the oldest among equals. */
  #tightest(size: number): OpenRow | undefined {
    let best: OpenRow | undefined;
    for (const row of this.#open) {
      if (row.free >= size && (best === undefined || row.free < best.free)) best = row;
    }
    return best;
  }

  #close(row: OpenRow): Row {
    this.#open.delete(row);
    return layOut(row.pieces, this.#length);
  }
}

/**
 * Pieces of at most `length` input tokens that predict every token after the first once; those that `trained`
 * (1 or 0 for each token; null: all) leaves out have no label.
 */
export function* cutSequence(
  sequence: readonly number[],
  trained: Uint8Array | null,
  { length, restart = null }: { length: number; restart?: number | null },
): Generator<Piece> {
  for (let start = 1; start < sequence.length; start += length) {
    const targets = sequence.slice(start, start + length);
    const ids = sequence.slice(start - 1, start - 1 + targets.length);
    if (start > 1 && restart !== null) ids[0] = restart;
    const labels =
      trained === null ? targets : targets.map((id, i) => (trained[start + i] === 1 ? id : IGNORED_LABEL));
    yield { ids, labels };
  }
}

/** A row of pieces that together have at most `length` tokens, each its own segment. */
export function layOut(
  pieces: readonly { readonly ids: ArrayLike<number>; readonly labels: ArrayLike<number> }[],
  length: number,
): Row {
  const row = emptyRow(length);
  let offset = 0;
  for (const [index, { ids, labels }] of pieces.entries()) {
    row.ids.set(ids, offset);
    row.labels.set(labels, offset);
    row.segments.fill(index + 1, offset, offset + ids.length);
    offset += ids.length;
  }
  return row;
}
