/** Loss of a model on data: `swarm evaluate`. */

import type { SwarmError } from '../../common/errors.ts';
import type { Example } from '../data/examples.ts';
import { OnlinePacker } from '../data/packing/online-packer.ts';
import type { Piece } from '../data/packing/pieces.ts';
import { renderExamples } from '../data/render/render-examples.ts';
import type { Renderer } from '../data/render/renderer.ts';
import { IGNORED_LABEL, type Row } from '../data/row.ts';
import type { RowReport } from '../data/row-report.ts';
import type { Graph } from '../graph/graph.ts';
import { adaptedParameters } from '../train/adapted-model.ts';
import { lossGraph, rowLosses } from '../train/step.ts';
import { isSized, SizedExecutables } from '../train/supervised.ts';
import { evaluateError } from './errors.ts';
import { adapterFeeds, type Subject } from './model-bundle.ts';

/** Longest window, tokens: attention takes memory with its square. Longer rows are scored in several windows. */
const MAX_WINDOW = 4096;
/** Windows are a multiple of this long, so that slightly different data makes the same graph. */
const WINDOW_STEP = 64;
/** Tokens per run: enough to keep the cores busy, with logits of some megabytes. */
const TOKENS_PER_RUN = 1024;
/** Runs between two looks at the data: rows wait until there are enough for so many. */
const RUNS_PER_TURN = 16;
/** The window is as long as the longest of the first texts; tokens of those, 32 MiB. */
const LOOK_AHEAD_TOKENS = 4 * 2 ** 20;

export interface EvaluateOptions {
  /** One row per text. */
  texts: AsyncIterable<string> | Iterable<string>;
  signal?: AbortSignal;
}

export interface EvaluateExamplesOptions {
  examples: AsyncIterable<Example> | Iterable<Example>;
  renderer: Renderer;
  /** Examples that cannot be rendered are told here. */
  report: RowReport;
  signal?: AbortSignal;
}

export interface Evaluation {
  /** Mean negative log-likelihood, nats per predicted token. */
  loss: number;
  /** Predicted tokens. */
  tokens: number;
  /** e^loss */
  perplexity: number;
  /**
   * Loss of all predicted tokens in bits per UTF-8 byte of text: comparable between tokenizers. null where not
   * everything is plain text: a template's marks are no bytes of the data.
   */
  bitsPerByte: number | null;
  rows: number;
  /** UTF-8 bytes of the texts; null as above. */
  bytes: number | null;
}

/** Tokens in their order. */
interface Sequence {
  ids: readonly number[];
  /** [ids.length] 1 where the token counts; null: all do. */
  trained: Uint8Array | null;
  /** UTF-8 bytes of a plain text, else null. */
  bytes: number | null;
}

/**
 * Each text is a row of its own, with the special tokens that the tokenizer's config adds; every token after a
 * row's first is predicted, from all tokens before it in the row.
 *
 * A row longer than the window is scored in windows that overlap by half: each of its tokens is still predicted
 * exactly once, from at least half a window of the tokens before it, where there are that many. The window is as long
 * as the longest of the first four million tokens' texts, and at most the model's context or 4,096 tokens. Memory
 * does not grow with the number of texts.
 *
 * @throws EVALUATE_EMPTY when there is nothing to predict; what the engine throws
 */
export function evaluateText({ texts, signal }: EvaluateOptions, subject: Subject): Promise<Evaluation> {
  const sequences = async function* (): AsyncGenerator<Sequence> {
    for await (const text of texts) yield textSequence(text, subject);
  };
  return score(sequences(), subject, signal);
}

/**
 * As `evaluateText` for plain text; of all other examples, as they would be trained, the tokens that would be trained
 * are predicted. @throws as evaluateText and renderExample, DATA_BAD_ROWS
 */
export function evaluateExamples(
  { examples, renderer, report, signal }: EvaluateExamplesOptions,
  subject: Subject,
): Promise<Evaluation> {
  const sequences = async function* (): AsyncGenerator<Sequence> {
    for await (const example of examples) {
      if (example.kind === 'text') yield textSequence(example.text, subject);
      else {
        for await (const { rendered } of renderExamples([example], renderer, { report, signal })) {
          yield { ...rendered, bytes: null };
        }
      }
    }
    report.finish();
  };
  return score(sequences(), subject, signal);
}

function textSequence(text: string, { tokenizer }: Subject): Sequence {
  return { ids: tokenizer.encode(text), trained: null, bytes: Buffer.byteLength(text) };
}

async function score(
  sequences: AsyncGenerator<Sequence>,
  subject: Subject,
  signal: AbortSignal | undefined,
): Promise<Evaluation> {
  const { model, engine, weights, adapter } = subject;
  const first = await lookAhead(sequences, signal);
  const longest = first.reduce((most, { ids }) => Math.max(most, ids.length - 1), 0);
  if (longest < 1) throw nothing(first.length);
  const length = Math.min(
    Math.ceil(longest / WINDOW_STEP) * WINDOW_STEP,
    model.config.maxPositions,
    MAX_WINDOW,
  );
  const size = { ...model, length, batch: Math.max(1, Math.floor(TOKENS_PER_RUN / length)) };
  const sizes = { tokens: size.batch * length, sized: isSized(engine, weights) };
  const executables = new SizedExecutables(sizes, (supervised) => {
    const parametersOf = (g: Graph) => adaptedParameters(g, model, adapter?.lora ?? null);
    return engine.compile(lossGraph({ ...size, supervised }, parametersOf), weights);
  });
  const total = { lossSum: 0, tokens: 0, rows: 0, bytes: 0 as number | null };
  try {
    const pause = async () => {
      await new Promise(setImmediate);
      signal?.throwIfAborted();
    };
    const feeds = adapterFeeds(subject);
    const run = async (rows: readonly Row[]): Promise<void> => {
      for (const { lossSum, tokens } of await rowLosses(executables, rows, feeds, { ...size, pause })) {
        total.lossSum += lossSum;
        total.tokens += tokens;
      }
    };
    const packer = new OnlinePacker({ sequenceLength: length });
    let waiting: Row[] = [];
    const add = async (sequence: Sequence): Promise<void> => {
      total.rows++;
      total.bytes = total.bytes === null || sequence.bytes === null ? null : total.bytes + sequence.bytes;
      for (const piece of windows(sequence.ids, length, sequence.trained)) {
        for (const row of packer.addPiece(piece)) waiting.push(row);
      }
      const ready = RUNS_PER_TURN * size.batch;
      for (; waiting.length >= ready; waiting = waiting.slice(ready)) await run(waiting.slice(0, ready));
    };
    for (let next = first.shift(); next !== undefined; next = first.shift()) await add(next);
    for await (const sequence of sequences) await add(sequence);
    await run([...waiting, ...packer.finish()]);
  } finally {
    await executables.dispose();
    await sequences.return(undefined);
  }
  const { lossSum, tokens, rows, bytes } = total;
  if (tokens === 0) throw nothing(rows);
  const loss = lossSum / tokens;
  const bitsPerByte = bytes === null ? null : lossSum / Math.LN2 / bytes;
  return { loss, tokens, perplexity: Math.exp(loss), bitsPerByte, rows, bytes };
}

/** Sequences until they have so many tokens that their longest says how long the others will be. */
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
  const message = 'no row has a token to predict; give rows of two tokens or more';
  return evaluateError('EVALUATE_EMPTY', message, { rows });
}

/**
 * Windows of at most `length` tokens. The first predicts all it can; each later one moves on by half a window
 * and predicts only what no window before it has predicted. Of tokens that are not `trained` (1 or 0 for each; null:
 * all are) nothing is predicted, and a window that would predict nothing is left out.
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
