/** Computes log-probabilities of token sequences with an engine. */
import { nextTurn } from '../../../common/abort-reason.ts';
import type { Executable } from '../../engines/engine.ts';
import { Graph } from '../../graph/graph.ts';
import { selectRows } from '../../graph/passes/select-rows.ts';
import { sequenceFeeds, sequenceInputs } from '../../models/sequences.ts';
import { adaptedParameters } from '../../train/adapted-model.ts';
import { isSized } from '../../train/supervised.ts';
import { adapterFeeds, type ModelBundle } from '../model-bundle.ts';
import type { TokenSequence } from './encode.ts';
import type { Likelihood, ModelOptions } from './language-model.ts';
import { type PlacedPiece, placePieces, sharedPieces } from './layout.ts';

/** Number of tokens that one run of a graph computes. */
const TOKENS_PER_RUN = 1024;
/** Length of the shortest rows, in tokens. Longer rows have 2, 4, 8, … times this length. */
const SHORTEST_ROW = 64;
/** Maximum size of the logits of one run, in bytes. */
const LOGITS_BYTES = 64 * 2 ** 20;
/**
 * Sizes of the compiled graphs, as fractions of the maximum number of positions whose logits one run
 * computes. A run that needs few logits uses a small graph, so that it computes few unneeded logits.
 */
const SHARES = [1 / 8, 1 / 4, 1 / 2, 1];

/** A position whose logits are needed. */
interface Slot {
  /** Index of the position among all tokens of the graph's run. */
  readonly token: number;
  /** Sequences whose next token is scored with these logits, and the id of that token. */
  readonly targets: readonly { readonly sequence: number; readonly id: number }[];
}

/**
 * Returns for each sequence the log-probability of its scored tokens, and whether greedy decoding would have chosen all
 * of these tokens.
 */
export async function scoreSequences(
  bundle: ModelBundle,
  sequences: readonly TokenSequence[],
  { onProgress, signal }: ModelOptions = {},
): Promise<Likelihood[]> {
  const results = sequences.map(() => ({ logLikelihood: 0, isGreedy: true }));
  const byLength = Map.groupBy(sharedPieces(sequences), ({ ids }) =>
    rowLength(ids.length, bundle.model.config.maxPositions),
  );
  let done = 0;
  for (const [length, pieces] of byLength) {
    const scorer = new LogitScorer(bundle, length);
    try {
      for (const run of runsOf(placePieces(pieces, length), scorer.batch)) {
        await nextTurn(signal);
        await scorer.score(run, sequences, results);
        for (const { piece } of run) done += piece.members.length;
        onProgress?.(done);
      }
    } finally {
      await scorer.dispose();
    }
  }
  return results;
}

/** Returns the length of the padded rows in which an input of `size` tokens is computed. */
export function rowLength(size: number, maxPositions: number): number {
  let length = SHORTEST_ROW;
  while (length < size) length *= 2;
  return Math.max(size, Math.min(length, maxPositions));
}

/** Splits pieces into runs of the graph. A run has the pieces of `batch` rows. */
function* runsOf(placed: readonly PlacedPiece[], batch: number): Generator<PlacedPiece[]> {
  let run: PlacedPiece[] = [];
  let end = batch;
  for (const piece of placed) {
    if (piece.row >= end) {
      yield run;
      run = [];
      end += batch;
    }
    run.push(piece);
  }
  if (run.length > 0) yield run;
}

class LogitScorer {
  readonly batch: number;
  readonly #bundle: ModelBundle;
  readonly #length: number;
  readonly #adapter: Map<string, Float32Array>;
  readonly #sizes: readonly number[];
  readonly #compiled = new Map<number, Executable>();

  constructor(bundle: ModelBundle, length: number) {
    const { model, engine, weights } = bundle;
    this.#bundle = bundle;
    this.#length = length;
    this.#adapter = adapterFeeds(bundle);
    this.batch = Math.max(1, Math.floor(TOKENS_PER_RUN / length));
    const most = Math.max(1, Math.floor(LOGITS_BYTES / 4 / model.config.vocabularySize));
    const slots = Math.min(most, this.batch * length);
    const sizes = SHARES.map((share) => Math.ceil(share * slots));
    // If each graph has its own copy of the weights, memory is saved by using only the largest graph for all runs.
    this.#sizes = isSized(engine, weights) ? sizes : sizes.slice(-1);
  }

  async score(
    run: readonly PlacedPiece[],
    sequences: readonly TokenSequence[],
    results: Mutable[],
  ): Promise<void> {
    const { rows, slots } = this.#prepare(run, sequences);
    const inputs = { ...sequenceFeeds(rows, this.#length), ...Object.fromEntries(this.#adapter) };
    const largest = this.#sizes.at(-1)!;
    for (let start = 0; start < slots.length; start += largest) {
      const some = slots.slice(start, start + largest);
      const size = this.#sizes.find((one) => one >= some.length)!;
      const chosen = new BigInt64Array(size);
      for (const [i, { token }] of some.entries()) chosen[i] = BigInt(token);
      const executable = await this.#executable(size);
      const { logits } = await executable.run({ ...inputs, chosen });
      const width = logits!.length / size;
      for (const [i, slot] of some.entries())
        addSlot(logits!.subarray(i * width, (i + 1) * width), slot, results);
    }
  }

  async dispose(): Promise<void> {
    for (const executable of this.#compiled.values()) await executable.dispose();
    this.#compiled.clear();
  }

  #prepare(run: readonly PlacedPiece[], sequences: readonly TokenSequence[]) {
    const length = this.#length;
    const rows = Array.from({ length: this.batch }, () => ({
      ids: new Uint32Array(length),
      segments: new Uint32Array(length),
    }));
    const slots: Slot[] = [];
    for (const [number, { piece, row, start }] of run.entries()) {
      const { ids, segments } = rows[row % this.batch]!;
      ids.set(piece.ids, start);
      segments.fill(number + 1, start, start + piece.ids.length);
      const targets = new Map<number, { sequence: number; id: number }[]>();
      for (const sequence of piece.members) {
        const { ids: all, from } = sequences[sequence]!;
        for (let position = from; position < all.length; position++) {
          const id = all[position]!;
          targets.set(position - 1, [...(targets.get(position - 1) ?? []), { sequence, id }]);
        }
      }
      const offset = (row % this.batch) * length + start;
      for (const [position, wanted] of targets) slots.push({ token: offset + position, targets: wanted });
    }
    return { rows, slots };
  }

  async #executable(size: number): Promise<Executable> {
    const known = this.#compiled.get(size);
    if (known !== undefined) return known;
    const { model, engine, weights, adapter } = this.#bundle;
    const graph = new Graph();
    const source = adaptedParameters(graph, model, adapter?.lora ?? null);
    const inputs = sequenceInputs(graph, this.batch, this.#length);
    const logits = model.architecture.forward(graph, model.config, inputs, source);
    graph.output('logits', selectRows(logits, graph.input('chosen', [size], 'int64')));
    const compiled = await engine.compile(graph, weights);
    this.#compiled.set(size, compiled);
    return compiled;
  }
}

type Mutable = { -readonly [K in keyof Likelihood]: Likelihood[K] };

/** Adds the log-probabilities of a position's scored tokens to the results. Sums over the vocabulary in float64. */
function addSlot(logits: Float32Array, { targets }: Slot, results: Mutable[]): void {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  const greatest = logits[best]!;
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - greatest);
  const logSum = greatest + Math.log(sum);
  for (const { sequence, id } of targets) {
    const result = results[sequence]!;
    result.logLikelihood += logits[id]! - logSum;
    if (id !== best) result.isGreedy = false;
  }
}
