/** The one way from examples to the rows that are trained and scored. */
import { isSwarmError } from '../../common/errors.ts';
import { BestFitPacker } from './best-fit.ts';
import type { Example } from './examples.ts';
import { checkRowLength, cutSequence, IGNORED_LABEL, Packer, type Piece, type Row } from './packing.ts';
import { type Rendered, type Renderer, renderExample } from './render/renderer.ts';
import { eachAnswer } from './render/turns.ts';
import type { RowReport } from './row-report.ts';
import { type Sample, type Truncation, truncate } from './truncation.ts';

export const PACKINGS = ['auto', 'bfd', 'wrapped', 'none'] as const;
/**
 * How samples share rows; always each as a segment of its own, which sees nothing of the others. `bfd`: best fit
 * decreasing over a window; `wrapped`: best fit in the order of the data; `none`: each has a row. `auto`: `wrapped`
 * for plain text, whose pieces mostly fill a row, `bfd` for everything else.
 */
export type Packing = (typeof PACKINGS)[number];

export interface RowOptions {
  /** T, tokens per row. A sample of T + 1 tokens fits: its last is only predicted. */
  sequenceLength: number;
  /** @default 'auto' */
  packing?: Packing;
  /** @default 'auto' */
  truncation?: Truncation;
  /** Examples that cannot be rendered are told here. */
  report: RowReport;
  /** Counts along. */
  tally?: RowTally;
  signal?: AbortSignal;
}

/** What became of the samples. Numbers of samples, where nothing else is said. */
export interface RowTally {
  samples: number;
  /** Tokens of all samples before truncation. */
  sampleTokens: number;
  /** Too long for a row, and cut to fit. */
  truncated: number;
  /** Too long for a row, and left out. */
  dropped: number;
  /** Too long for a row, and split into several pieces. */
  split: number;
  /** With no token to train, and left out. */
  untrained: number;
  /** With a token that holds the end of a prompt and the start of an answer. */
  merged: number;
  rows: number;
  /** Tokens in rows, padding not counted; of rows · T, the fill ratio. */
  rowTokens: number;
  /** Tokens that give a loss. */
  trainedTokens: number;
}

export function newTally(): RowTally {
  return {
    samples: 0,
    sampleTokens: 0,
    truncated: 0,
    dropped: 0,
    split: 0,
    untrained: 0,
    merged: 0,
    rows: 0,
    rowTokens: 0,
    trainedTokens: 0,
  };
}

/** In words, why samples gave no row at all. */
export function whyNoRows({ samples, untrained, dropped }: RowTally): string {
  if (samples === 0) return 'no row of the files became a sample';
  const reasons = [
    [untrained, 'without a token to train, such as conversations without an answer'],
    [dropped, 'longer than a row and left out'],
  ].flatMap(([count, what]) => (count === 0 ? [] : [`${count} ${what}`]));
  return `of ${samples} samples ${reasons.join(', ')}`;
}

export interface RenderedExample {
  readonly example: Example;
  readonly rendered: Rendered;
}

/** Examples that are rendered ahead: one is tokenised while the template's thread writes the next. */
const LOOK_AHEAD = 4;

export interface RenderOptions extends Pick<RowOptions, 'report' | 'signal'> {
  /** A conversation whose template has no prefix property is one more bad row, not the end: to count them. @default false */
  countTemplateBreaks?: boolean;
}

/** Renders in order; examples that cannot be are reported and left out. @throws as renderExample, DATA_BAD_ROWS */
export async function* renderAll(
  examples: AsyncIterable<Example> | Iterable<Example>,
  renderer: Renderer,
  { report, signal, countTemplateBreaks = false }: RenderOptions,
): AsyncGenerator<RenderedExample, void, undefined> {
  const ahead: { example: Example; rendering: Promise<Rendered> }[] = [];
  const next = async (): Promise<RenderedExample | null> => {
    const { example, rendering } = ahead.shift()!;
    signal?.throwIfAborted();
    try {
      return { example, rendered: await rendering };
    } catch (error) {
      // These codes are about one row; see renderExample.
      const ofOneRow =
        isSwarmError(error) &&
        (error.code.startsWith('ROW_') || (countTemplateBreaks && error.code === 'DATA_TEMPLATE'));
      if (!ofOneRow) throw error;
      const reason = String(error.values.reason ?? error.message);
      report.bad({ origin: example.origin, code: error.code, reason });
      return null;
    }
  };
  for await (const whole of examples) {
    for (const example of renderer.trainOn === 'turns' ? eachAnswer(whole) : [whole]) {
      const rendering = renderExample(example, renderer);
      // It is awaited in its turn, or never where one before it fails.
      rendering.catch(() => {});
      ahead.push({ example, rendering });
      if (ahead.length < LOOK_AHEAD) continue;
      const done = await next();
      if (done) yield done;
    }
  }
  while (ahead.length > 0) {
    const done = await next();
    if (done) yield done;
  }
  // The reader has looked at the share already, but not at what was found here since.
  report.finish();
}

/**
 * Rows of T tokens as they fill up, in an order that depends on the examples alone.
 * @throws PACK_LENGTH and as renderAll
 */
export async function* rowsOf(
  examples: AsyncIterable<Example> | Iterable<Example>,
  renderer: Renderer,
  options: RowOptions,
): AsyncGenerator<Row, void, undefined> {
  const packer = new SamplePacker(options, renderer);
  for await (const { example, rendered } of renderAll(examples, renderer, options)) {
    yield* packer.add(example.kind, rendered);
  }
  yield* packer.finish();
}

interface PiecePacker {
  addPiece(piece: Piece): Iterable<Row>;
  finish(): Iterable<Row>;
}

/** Truncates, packs and counts rendered samples. */
export class SamplePacker {
  readonly tally: RowTally;
  readonly #options: Required<Pick<RowOptions, 'sequenceLength' | 'packing' | 'truncation'>>;
  /** First token of the pieces that a sample is split into. */
  readonly #restart: number | null;
  readonly #packers: Record<Exclude<Packing, 'auto'>, PiecePacker>;

  constructor(
    { sequenceLength, packing = 'auto', truncation = 'auto', tally = newTally() }: Omit<RowOptions, 'report'>,
    { tokenizer }: Pick<Renderer, 'tokenizer'>,
  ) {
    checkRowLength(sequenceLength);
    this.#options = { sequenceLength, packing, truncation };
    this.tally = tally;
    this.#restart = tokenizer.prefix.at(-1) ?? null;
    this.#packers = {
      bfd: new BestFitPacker({ sequenceLength }),
      wrapped: new Packer({ sequenceLength }),
      none: singly(sequenceLength),
    };
  }

  *add(kind: Example['kind'], { ids, trained, merged }: Rendered): Generator<Row> {
    const { tally } = this;
    tally.samples++;
    tally.sampleTokens += ids.length;
    if (merged > 0) tally.merged++;
    if (!predicts(trained)) {
      tally.untrained++;
      return;
    }
    const { packing } = this.#options;
    const packer = this.#packers[packing === 'auto' ? (kind === 'text' ? 'wrapped' : 'bfd') : packing];
    for (const piece of this.#pieces(kind, { ids, trained })) yield* this.#count(packer.addPiece(piece));
  }

  *finish(): Generator<Row> {
    for (const packer of Object.values(this.#packers)) yield* this.#count(packer.finish());
  }

  *#pieces(kind: Example['kind'], sample: Sample): Generator<Piece> {
    const { tally } = this;
    const restart = this.#restart;
    const { sequenceLength: length, truncation } = this.#options;
    const limit = length + 1;
    const mode = truncation === 'auto' ? (kind === 'text' ? 'split' : 'shorten') : truncation;
    if (mode === 'split') {
      if (sample.ids.length > limit) tally.split++;
      for (const piece of cutSequence(sample.ids, sample.trained, { length, restart })) {
        if (piece.labels.some((label) => label !== IGNORED_LABEL)) yield piece;
      }
      return;
    }
    const fitting = truncate(sample, limit, mode);
    if (fitting === null) tally.dropped++;
    else if (!predicts(fitting.trained)) tally.untrained++;
    else {
      if (fitting !== sample) tally.truncated++;
      yield* cutSequence(fitting.ids, fitting.trained, { length });
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

/** Whether any token is predicted: the first has nothing to be predicted from. */
function predicts(trained: Uint8Array): boolean {
  return trained.indexOf(1, 1) >= 0;
}

/** A row for each piece. */
function singly(sequenceLength: number): PiecePacker {
  return {
    *addPiece(piece) {
      const packer = new Packer({ sequenceLength });
      yield* packer.addPiece(piece);
      yield* packer.finish();
    },
    finish: () => [],
  };
}
