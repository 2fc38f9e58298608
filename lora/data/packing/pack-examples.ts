import type { RowTally } from '../../../protocol/api/job-creation.ts';
import type { Example } from '../examples.ts';
import { type RenderOptions, renderExamples } from '../render/render-examples.ts';
import type { Rendered } from '../render/rendered.ts';
import type { Renderer } from '../render/renderer.ts';
import { checkRowLength, IGNORED_LABEL, type Row } from '../row.ts';
import { OnlinePacker } from './online-packer.ts';
import type { PieceSet } from './piece-set.ts';
import { cutSequence, type Piece } from './pieces.ts';
import { NAMED_UNTRAINED, newTally } from './tally.ts';
import { type Sample, type Truncation, truncate } from './truncation.ts';
import { WindowPacker } from './window-packer.ts';

export const PACKINGS = ['auto', 'bfd', 'wrapped', 'none'] as const;
/**
 * Packing: the way in which samples share rows. Each sample is always a separate segment, so its tokens never see
 * another sample.
 * - `bfd`: best fit decreasing, over a window of the data
 * - `wrapped`: best fit in the order of the data
 * - `none`: one row per sample
 * - `auto`: `wrapped` for plain text, whose pieces mostly fill a row; `bfd` for everything else
 */
export type Packing = (typeof PACKINGS)[number];

export interface PackingOptions extends Pick<RenderOptions, 'report' | 'signal'> {
  /**
   * Number of tokens in a row (T). A sample of T + 1 tokens fits, because its last token is predicted and is
   * not an input.
   */
  sequenceLength: number;
  /** @default 'auto' */
  packing?: Packing;
  /** @default 'auto' */
  truncation?: Truncation;
  /** Counters that are updated while the rows are made. */
  tally?: RowTally;
  /** Pieces of held-out samples. A sample is left out if all of its pieces are in this set. @default none */
  heldOut?: PieceSet;
  /**
   * Whether more examples with the same report follow in another call. The last call checks the share of bad records.
   * @default false
   */
  moreFollow?: boolean;
}

/**
 * Renders, truncates and packs examples. Yields rows of T tokens as they fill up. The order of the rows depends only on
 * the examples.
 * @throws PACK_LENGTH; DATA_BAD_ROWS; errors of renderExamples
 */
export async function* packExamples(
  examples: AsyncIterable<Example> | Iterable<Example>,
  renderer: Renderer,
  options: PackingOptions,
): AsyncGenerator<Row, void, undefined> {
  const packer = new SamplePacker(options, renderer);
  for await (const { example, rendered } of renderExamples(examples, renderer, options)) {
    yield* packer.add(example, rendered);
  }
  if (options.moreFollow !== true) options.report.finish();
  yield* packer.finish();
}

interface PiecePacker {
  addPiece(piece: Piece): Iterable<Row>;
  finish(): Iterable<Row>;
}

/** Truncates, packs and counts rendered samples. */
export class SamplePacker {
  readonly tally: RowTally;
  readonly #options: Required<Pick<PackingOptions, 'sequenceLength' | 'packing' | 'truncation'>>;
  readonly #heldOut: PieceSet | null;
  /** Token put before every piece of a split sample except the first; null if the tokenizer puts none before a text. */
  readonly #restart: number | null;
  readonly #packers: Record<Exclude<Packing, 'auto'>, PiecePacker>;

  constructor(
    {
      sequenceLength,
      packing = 'auto',
      truncation = 'auto',
      tally = newTally(),
      heldOut,
    }: Omit<PackingOptions, 'report' | 'signal'>,
    { tokenizer }: Pick<Renderer, 'tokenizer'>,
  ) {
    checkRowLength(sequenceLength);
    this.#options = { sequenceLength, packing, truncation };
    this.tally = tally;
    this.#heldOut = heldOut ?? null;
    this.#restart = tokenizer.prefix.at(-1) ?? null;
    this.#packers = {
      bfd: new WindowPacker({ sequenceLength }),
      wrapped: new OnlinePacker({ sequenceLength }),
      none: rowPerPiece(sequenceLength),
    };
  }

  /** Adds a sample. Yields the rows that became full. */
  *add(example: Example, { ids, trained, merged }: Rendered): Generator<Row> {
    const { tally } = this;
    const { kind } = example;
    tally.samples++;
    tally.sampleTokens += ids.length;
    tally.longest = Math.max(tally.longest, ids.length);
    if (merged > 0) tally.merged++;
    if (!predicts(trained)) {
      this.#leaveOut(
        example,
        hasNoAnswer(example) ? 'has no answer of the assistant' : 'no token counts in the loss',
      );
      return;
    }
    const { packing } = this.#options;
    const packer = this.#packers[packing === 'auto' ? (kind === 'text' ? 'wrapped' : 'bfd') : packing];
    let pieces: Iterable<Piece> = this.#pieces(example, { ids, trained });
    if (this.#heldOut) {
      const all = [...pieces];
      if (isHeldOut(all, this.#heldOut)) {
        tally.heldOut++;
        return;
      }
      pieces = all;
    }
    for (const piece of pieces) yield* this.#count(packer.addPiece(piece));
  }

  /** Yields the remaining rows, which are not full. */
  *finish(): Generator<Row> {
    for (const packer of Object.values(this.#packers)) yield* this.#count(packer.finish());
  }

  *#pieces(example: Example, sample: Sample): Generator<Piece> {
    const { tally } = this;
    const restart = this.#restart;
    const { sequenceLength: length, truncation } = this.#options;
    const limit = length + 1;
    const mode = truncation === 'auto' ? (example.kind === 'text' ? 'split' : 'shorten') : truncation;
    if (mode === 'split') {
      if (sample.ids.length > limit) tally.split++;
      for (const piece of cutSequence(sample.ids, sample.trained, { length, restart })) {
        if (piece.labels.some((label) => label !== IGNORED_LABEL)) yield piece;
      }
      return;
    }
    const fitting = truncate(sample, limit, mode);
    if (fitting === null) tally.dropped++;
    else if (!predicts(fitting.trained)) {
      this.#leaveOut(example, `lost all its trained tokens when it was cut to ${limit} tokens`);
    } else {
      if (fitting !== sample) tally.truncated++;
      yield* cutSequence(fitting.ids, fitting.trained, { length });
    }
  }

  /**
   * Counts a sample without a supervised token. If `trainOn` is `turns`, a record can give several such samples, but it
   * is listed only once.
   */
  #leaveOut({ origin }: Example, reason: string): void {
    const { tally } = this;
    tally.untrained++;
    if (tally.untrainedRows.length < NAMED_UNTRAINED && tally.untrainedRows.at(-1)?.origin !== origin) {
      tally.untrainedRows.push({ origin, reason });
    }
  }

  *#count(rows: Iterable<Row>): Generator<Row> {
    for (const row of rows) {
      this.tally.rows++;
      for (const segment of row.segments) if (segment !== 0) this.tally.rowTokens++;
      for (const label of row.labels) if (label !== IGNORED_LABEL) this.tally.trainedTokens++;
      yield row;
    }
  }
}

/** Returns whether any token contributes to the loss. The first token cannot, because no token comes before it. */
function predicts(trained: Uint8Array): boolean {
  return trained.indexOf(1, 1) >= 0;
}

function hasNoAnswer(example: Example): boolean {
  return example.kind === 'messages' && !example.messages.some(({ role }) => role === 'assistant');
}

/** Returns whether a sample is held out. It is held out if all of its pieces are pieces of held-out samples. */
function isHeldOut(pieces: readonly Piece[], heldOut: PieceSet): boolean {
  return pieces.length > 0 && pieces.every((piece) => heldOut.has(piece));
}

function rowPerPiece(sequenceLength: number): PiecePacker {
  return {
    *addPiece(piece) {
      const packer = new OnlinePacker({ sequenceLength });
      yield* packer.addPiece(piece);
      yield* packer.finish();
    },
    finish: () => [],
  };
}
