/** Losses of models on token sequences, which are packed into rows. */
import { nextTurn } from '../../common/abort-reason.ts';
import type { SwarmError } from '../../common/errors.ts';
import { OnlinePacker } from '../data/packing/online-packer.ts';
import type { Piece } from '../data/packing/pieces.ts';
import { IGNORED_LABEL, type Row } from '../data/row.ts';
import type { Graph } from '../graph/graph.ts';
import type { BaseModel } from '../models/base/base-model.ts';
import { adaptedParameters } from '../train/adapted-model.ts';
import { lossGraph, rowLosses } from '../train/step.ts';
import { isSized, SizedExecutables } from '../train/supervised.ts';
import { evaluateError } from './errors.ts';
import { adapterFeeds, type ModelBundle } from './model-bundle.ts';

/**
 * Maximum length of a window in tokens, because the memory of attention grows with the square of the length. Longer
 * sequences are scored in several windows.
 */
const MAX_WINDOW = 4096;
/** Window lengths are multiples of this number of tokens, so that texts of similar length use the same graph. */
const WINDOW_STEP = 64;
/**
 * Number of tokens in a run of the graph. This number of tokens keeps the cores busy. More tokens would only
 * need more memory for logits.
 */
const TOKENS_PER_RUN = 1024;
/** Rows are collected until they fill this many runs of the graph. Then all of them are computed. */
const RUNS_PER_TURN = 16;
/**
 * Number of tokens to read ahead, which take 32 MiB of memory. The longest text among these tokens sets the
 * length of the windows into which texts are cut.
 */
const LOOK_AHEAD_TOKENS = 4 * 2 ** 20;

/** The tokens of an example. */
export interface Sequence {
  ids: readonly number[];
  /** Holds 1 for each supervised token and 0 for each other token; null if all tokens are supervised. */
  trained: Uint8Array | null;
  /** Number of UTF-8 bytes of the example's text; null if the example is not plain text. */
  bytes: number | null;
}

/** Losses of a model. */
export interface Losses {
  /** Loss in nats, summed over all supervised tokens. */
  readonly lossSum: number;
  /** Number of supervised tokens. */
  readonly tokens: number;
  /**
   * Summed loss and number of supervised tokens of each example. The list is empty if there is only one model, and has a
   * hole at the index of an example without a supervised token.
   */
  readonly examples: readonly (readonly [number, number])[];
}

export interface Scores {
  /** Losses of each model, in the order of the models. */
  readonly losses: readonly Losses[];
  readonly rows: number;
  /** Number of UTF-8 bytes of all sequences; null if a sequence is not plain text. */
  readonly bytes: number | null;
}

/** Progress of a measurement of losses. It has no totals, because the data is read while losses are computed. */
export interface ScoreProgress {
  /** Number of rows of the data that have been read. */
  readonly rows: number;
  /** Number of supervised tokens whose loss is known. */
  readonly tokens: number;
}

interface ScoreOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: ScoreProgress) => void) | undefined;
}

/**
 * Measures the losses of models of the same base on the same sequences.
 * @throws EVALUATE_EMPTY if no sequence has a token to predict
 */
export async function scoreSequences(
  sequences: AsyncGenerator<Sequence>,
  models: readonly ModelBundle[],
  { signal, onProgress }: ScoreOptions,
): Promise<Scores> {
  const { model } = models[0]!;
  const first = await lookAhead(sequences, signal);
  const longest = first.reduce((most, { ids }) => Math.max(most, ids.length - 1), 0);
  if (longest < 1) throw nothing(first.length);
  const length = Math.min(
    Math.ceil(longest / WINDOW_STEP) * WINDOW_STEP,
    model.config.maxPositions,
    MAX_WINDOW,
  );
  const size = { ...model, length, batch: Math.max(1, Math.floor(TOKENS_PER_RUN / length)) };
  const scorers = models.map((bundle) => new Scorer(bundle, size, models.length > 1));
  const total = { rows: 0, bytes: 0 as number | null };
  try {
    const pause = (): Promise<void> => nextTurn(signal);
    const packer = new OnlinePacker({ sequenceLength: length });
    const owners = new Map<Piece, number>();
    const run = async (rows: readonly Row[]): Promise<void> => {
      const pieces = rows.map((row) => packer.piecesOf(row));
      const examples = pieces.map((some) => some.map((piece) => owners.get(piece)!));
      for (const scorer of scorers) await scorer.score(rows, examples, pause);
      for (const piece of pieces.flat()) owners.delete(piece);
      onProgress?.({ rows: total.rows, tokens: scorers[0]!.losses.tokens });
    };
    let waiting: Row[] = [];
    const add = async (sequence: Sequence): Promise<void> => {
      const example = total.rows++;
      total.bytes = total.bytes === null || sequence.bytes === null ? null : total.bytes + sequence.bytes;
      for (const piece of windows(sequence.ids, length, sequence.trained)) {
        owners.set(piece, example);
        for (const row of packer.addPiece(piece)) waiting.push(row);
      }
      const ready = RUNS_PER_TURN * size.batch;
      for (; waiting.length >= ready; waiting = waiting.slice(ready)) await run(waiting.slice(0, ready));
    };
    for (let next = first.shift(); next !== undefined; next = first.shift()) await add(next);
    for await (const sequence of sequences) await add(sequence);
    await run([...waiting, ...packer.finish()]);
  } finally {
    for (const scorer of scorers) await scorer.dispose();
    await sequences.return(undefined);
  }
  if (scorers[0]!.losses.tokens === 0) throw nothing(total.rows);
  return { losses: scorers.map(({ losses }) => losses), ...total };
}

/** A model that scores packed rows, and the losses that it found so far. */
class Scorer {
  readonly losses = { lossSum: 0, tokens: 0, examples: [] as [number, number][] };
  readonly #executables: SizedExecutables;
  readonly #feeds: ReadonlyMap<string, Float32Array>;
  /**
   * Whether the loss of each example is kept. Only a comparison needs these losses, and their memory grows
   * with the data.
   */
  readonly #keepsExamples: boolean;
  readonly #size: { readonly batch: number; readonly length: number };

  constructor(
    bundle: ModelBundle,
    size: BaseModel & { batch: number; length: number },
    keepsExamples: boolean,
  ) {
    const { model, engine, weights, adapter } = bundle;
    const sizes = { tokens: size.batch * size.length, sized: isSized(engine, weights) };
    this.#executables = new SizedExecutables(sizes, (supervised) => {
      const parametersOf = (g: Graph) => adaptedParameters(g, model, adapter?.lora ?? null);
      return engine.compile(lossGraph({ ...size, supervised }, parametersOf), weights);
    });
    this.#feeds = adapterFeeds(bundle);
    this.#size = size;
    this.#keepsExamples = keepsExamples;
  }

  /** @param examples for each row, the numbers of the examples to which its pieces belong */
  async score(
    rows: readonly Row[],
    examples: readonly (readonly number[])[],
    pause: () => Promise<void>,
  ): Promise<void> {
    const { losses } = this;
    const onLoss = (row: number, position: number, loss: number): void => {
      const example = examples[row]![rows[row]!.segments[position]! - 1]!;
      const [sum, count] = losses.examples[example] ?? [0, 0];
      losses.examples[example] = [sum + loss, count + 1];
    };
    const { batch, length } = this.#size;
    for (const { lossSum, tokens } of await rowLosses(this.#executables, rows, this.#feeds, {
      batch,
      length,
      pause,
      ...(this.#keepsExamples && { onLoss }),
    })) {
      losses.lossSum += lossSum;
      losses.tokens += tokens;
    }
  }

  dispose(): Promise<void> {
    return this.#executables.dispose();
  }
}

/**
 * Reads the first sequences, until they have LOOK_AHEAD_TOKENS tokens. The caller chooses the window length by the
 * longest of them.
 */
async function lookAhead(
  sequences: AsyncGenerator<Sequence>,
  signal: AbortSignal | undefined,
): Promise<Sequence[]> {
  const first: Sequence[] = [];
  for (let tokens = 0; tokens < LOOK_AHEAD_TOKENS; ) {
    signal?.throwIfAborted();
    const next = await sequences.next();
    if (next.done) break;
    first.push(next.value);
    tokens += next.value.ids.length;
  }
  return first;
}

function nothing(rows: number): SwarmError {
  const message = 'no example has a token to predict';
  return evaluateError('EVALUATE_EMPTY', message, { rows });
}

/**
 * Splits a sequence into windows of at most `length` tokens. Each window starts half a window after the previous
 * window, and predicts the tokens that no earlier window has predicted. Windows without a token to predict are left
 * out.
 *
 * @param trained 1 for tokens to predict, 0 for others; null to predict all tokens
 */
export function* windows(
  sequence: readonly number[],
  length: number,
  trained: Uint8Array | null = null,
): Generator<Piece> {
  const predictions = sequence.length - 1;
  let predicted = 0;
  for (let start = 0; predicted < predictions; start += Math.ceil(length / 2)) {
    const end = Math.min(start + length, predictions);
    const labels = sequence.slice(start + 1, end + 1).fill(IGNORED_LABEL, 0, predicted - start);
    const masked =
      trained === null ? labels : labels.map((id, i) => (trained[start + 1 + i] === 1 ? id : IGNORED_LABEL));
    if (trained === null || masked.some((label) => label !== IGNORED_LABEL)) {
      yield { ids: sequence.slice(start, end), labels: masked };
    }
    predicted = end;
  }
}
