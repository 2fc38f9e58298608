/** Loss of a model on data, as `lora-swarm evaluate` reports it. */

import type { z } from 'zod';
import { withAbortReason } from '../../common/abort-reason.ts';
import { commonError } from '../../common/common-errors.ts';
import type { SwarmError } from '../../common/errors.ts';
import type { Example } from '../data/examples.ts';
import { OnlinePacker } from '../data/packing/online-packer.ts';
import type { Piece } from '../data/packing/pieces.ts';
import { readExamples } from '../data/read-examples.ts';
import { renderExamples } from '../data/render/render-examples.ts';
import type { Renderer } from '../data/render/renderer.ts';
import { IGNORED_LABEL, type Row } from '../data/row.ts';
import { type BadRow, RowReport, type RowSummary } from '../data/row-report.ts';
import { type dataSettingsSchema, parseDataSettings, readingOf, rendererFor } from '../data/settings.ts';
import type { Graph } from '../graph/graph.ts';
import { adaptedParameters } from '../train/adapted-model.ts';
import { lossGraph, rowLosses } from '../train/step.ts';
import { isSized, SizedExecutables } from '../train/supervised.ts';
import { evaluateError } from './errors.ts';
import { adapterFeeds, type ModelBundle } from './model-bundle.ts';

/**
 * Maximum length of a window in tokens, because the memory of attention grows with the square of the length. Longer
 * rows are scored in several windows.
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
 * length of the window.
 */
const LOOK_AHEAD_TOKENS = 4 * 2 ** 20;

/** The texts or data files on which the loss is measured. */
export interface EvaluateOptions {
  /** Texts. Each text is a row. Give either `texts` or `data`. */
  readonly texts?: AsyncIterable<string> | Iterable<string>;
  /** Data files, folders or glob patterns, in any format of docs/data.md. */
  readonly data?: string | readonly string[];
  /** Settings for reading and rendering `data`, with the same keys as the block `data` of a config file. @default {} */
  readonly settings?: z.input<typeof dataSettingsSchema>;
  /** Called with each row of `data` that cannot be used. */
  readonly onBadRow?: (row: BadRow) => void;
  /** Time in milliseconds since 1970. A chat template may print its date. @default now */
  readonly now?: number;
  /** @default never aborts */
  readonly signal?: AbortSignal | undefined;
}

export interface ExamplesToEvaluate {
  readonly examples: AsyncIterable<Example> | Iterable<Example>;
  readonly renderer: Renderer;
  /** Receives the examples that cannot be rendered. */
  readonly report: RowReport;
  readonly signal?: AbortSignal | undefined;
}

/** Loss of a model. */
export interface Evaluation {
  /** Mean negative log-likelihood, in nats per supervised token. */
  loss: number;
  /** Number of supervised tokens. */
  tokens: number;
  /** Perplexity: e^loss. */
  perplexity: number;
  /**
   * Loss of all supervised tokens in bits per UTF-8 byte of text, a measure that is comparable between tokenizers. Null
   * if an example is not plain text, because a template adds tokens that are not in the data.
   */
  bitsPerByte: number | null;
  rows: number;
  /** Number of UTF-8 bytes of the texts; null if `bitsPerByte` is null. */
  bytes: number | null;
  /** Rows of `data`, and how many of them could not be used; null for `texts`. */
  read: RowSummary | null;
}

/** The tokens of an example. */
interface Sequence {
  ids: readonly number[];
  /** Holds 1 for each supervised token and 0 for each other token; null if all tokens are supervised. */
  trained: Uint8Array | null;
  /** UTF-8 bytes of a plain text, else null. */
  bytes: number | null;
}

/**
 * Measures the loss of a model. Each text is a row with the tokenizer's special tokens. Every token but the first is
 * predicted from all tokens before it. Examples that are not plain text are rendered as for training, and the loss
 * covers the tokens that training would supervise.
 *
 * A row longer than the window is scored in windows that overlap by half. Each token is predicted exactly once, from at
 * least half a window of preceding tokens if there are that many. The window is as long as the longest text within the
 * first 4 million tokens, but no longer than the model's context and no longer than 4,096 tokens. Memory does not grow
 * with the number of texts.
 *
 * @throws SwarmError USAGE if texts and data are both missing or both given; EVALUATE_EMPTY without a token to predict;
 * DATA_*, TEMPLATE_*, ENGINE_*; the signal's reason
 */
export async function evaluate(bundle: ModelBundle, options: EvaluateOptions): Promise<Evaluation> {
  const { texts, data, onBadRow, now = Date.now(), signal } = options;
  if (typeof texts === 'string') {
    throw commonError(
      'USAGE',
      'texts must be a list of texts, not a single one',
      {},
      { next: 'pass [text]' },
    );
  }
  if (texts !== undefined && data === undefined) return score(textSequences(texts, bundle), bundle, signal);
  if (data === undefined || texts !== undefined) {
    throw commonError('USAGE', 'an evaluation takes either texts or data files');
  }
  const settings = parseDataSettings(options.settings ?? {});
  const report = new RowReport({ badRowShare: settings.badRowShare, ...(onBadRow && { onBad: onBadRow }) });
  const renderer = await rendererFor(settings, { dir: bundle.model.dir, now }, bundle);
  try {
    const examples = readExamples(data, { ...readingOf(settings), ...(signal && { signal }), report });
    return await withAbortReason(signal, () =>
      evaluateExamples(bundle, { examples, renderer, report, signal }),
    );
  } finally {
    await renderer.close();
  }
}

/** Measures the loss as `evaluate` does, on examples from any source. */
export async function evaluateExamples(
  bundle: ModelBundle,
  { examples, renderer, report, signal }: ExamplesToEvaluate,
): Promise<Evaluation> {
  const sequences = async function* (): AsyncGenerator<Sequence> {
    for await (const example of examples) {
      if (example.kind === 'text') yield textSequence(example.text, bundle);
      else {
        const options = { report, ...(signal && { signal }) };
        for await (const { rendered } of renderExamples([example], renderer, options)) {
          yield { ...rendered, bytes: null };
        }
      }
    }
    report.finish();
  };
  return { ...(await score(sequences(), bundle, signal)), read: report.summary() };
}

async function* textSequences(
  texts: AsyncIterable<string> | Iterable<string>,
  bundle: ModelBundle,
): AsyncGenerator<Sequence> {
  for await (const text of texts) yield textSequence(text, bundle);
}

function textSequence(text: string, { tokenizer }: ModelBundle): Sequence {
  return { ids: tokenizer.encode(text), trained: null, bytes: Buffer.byteLength(text) };
}

async function score(
  sequences: AsyncGenerator<Sequence>,
  bundle: ModelBundle,
  signal: AbortSignal | undefined,
): Promise<Evaluation> {
  const { model, engine, weights, adapter } = bundle;
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
    const feeds = adapterFeeds(bundle);
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
  return { loss, tokens, perplexity: Math.exp(loss), bitsPerByte, rows, bytes, read: null };
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
  const message = 'no row has a token to predict';
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
