/** Loss of a model on texts: `swarm evaluate`. */
import { SwarmError } from '../../protocol/errors.ts';
import { IGNORED_LABEL, type Piece, packPieces } from '../data/packing.ts';
import { adaptedParameters } from '../train/adapted.ts';
import { lossGraph, rowLosses } from '../train/step.ts';
import { adapterFeeds, type Subject } from './subject.ts';

/** Longest window, tokens: attention takes memory with its square. Longer rows are scored in several windows. */
const MAX_WINDOW = 4096;
/** Windows are a multiple of this long, so that slightly different data makes the same graph. */
const WINDOW_STEP = 64;
/** Tokens per run: enough to keep the cores busy, with logits of some megabytes. */
const TOKENS_PER_RUN = 1024;

export interface EvaluateOptions {
  /** One row per text. */
  texts: AsyncIterable<string> | Iterable<string>;
  signal?: AbortSignal;
}

export interface Evaluation {
  /** Mean negative log-likelihood, nats per predicted token. */
  loss: number;
  /** Predicted tokens. */
  tokens: number;
  /** e^loss */
  perplexity: number;
  /** Loss of all predicted tokens in bits per UTF-8 byte of text: comparable between tokenizers. */
  bitsPerByte: number;
  rows: number;
  /** UTF-8 bytes of the texts. */
  bytes: number;
}

/**
 * Each text is a row of its own, with the special tokens that the tokenizer's config adds; every token after a
 * row's first is predicted, from all tokens before it in the row.
 *
 * A row longer than the model's context (or 4,096 tokens) is scored in windows that overlap by half: each of its tokens is
 * still predicted exactly once, from at least half a window of the tokens before it, where there are that many.
 *
 * @throws EVALUATE_EMPTY when there is nothing to predict; what the engine throws
 */
export async function evaluateText(options: EvaluateOptions, subject: Subject): Promise<Evaluation> {
  const { model, engine, weights, tokenizer, adapter } = subject;
  const { signal } = options;
  const sequences: number[][] = [];
  let bytes = 0;
  for await (const text of options.texts) {
    signal?.throwIfAborted();
    sequences.push(tokenizer.encode(text));
    bytes += Buffer.byteLength(text);
  }
  const longest = sequences.reduce((most, { length }) => Math.max(most, length - 1), 0);
  if (longest < 1) {
    throw new SwarmError('EVALUATE_EMPTY', 'no row has a token to predict; give rows of two tokens or more', {
      rows: sequences.length,
    });
  }
  const length = Math.min(
    Math.ceil(longest / WINDOW_STEP) * WINDOW_STEP,
    model.config.maxPositions,
    MAX_WINDOW,
  );
  const size = { ...model, length, batch: Math.max(1, Math.floor(TOKENS_PER_RUN / length)) };
  const rows = [
    ...packPieces(
      sequences.flatMap((sequence) => [...windows(sequence, length)]),
      length,
    ),
  ];
  const graph = lossGraph(size, (g) => adaptedParameters(g, model, adapter?.lora ?? null));
  const executable = await engine.compile(graph, weights);
  try {
    const pause = async () => {
      await new Promise(setImmediate);
      signal?.throwIfAborted();
    };
    const losses = await rowLosses(executable, rows, adapterFeeds(subject), { ...size, pause });
    const lossSum = losses.reduce((sum, row) => sum + row.lossSum, 0);
    const tokens = losses.reduce((sum, row) => sum + row.tokens, 0);
    const loss = lossSum / tokens;
    return {
      loss,
      tokens,
      perplexity: Math.exp(loss),
      bitsPerByte: lossSum / Math.LN2 / bytes,
      rows: sequences.length,
      bytes,
    };
  } finally {
    await executable.dispose();
  }
}

/**
 * Windows of at most `length` tokens. The first predicts all it can; each later one moves on by half a window
 * and predicts only what no window before it has predicted.
 */
export function* windows(sequence: readonly number[], length: number): Generator<Piece> {
  const predictions = sequence.length - 1;
  let predicted = 0;
  for (let start = 0; predicted < predictions; start += Math.ceil(length / 2)) {
    const end = Math.min(start + length, predictions);
    const labels = sequence.slice(start + 1, end + 1);
    yield { ids: sequence.slice(start, end), labels: labels.fill(IGNORED_LABEL, 0, predicted - start) };
    predicted = end;
  }
}
