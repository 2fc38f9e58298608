/** Loss of a model on data, as `lora-swarm evaluate` reports it. */

import type { z } from 'zod';
import { withAbortReason } from '../../common/abort-reason.ts';
import { commonError } from '../../common/common-errors.ts';
import type { BadRow, RowSummary } from '../../protocol/api/job-creation.ts';
import type { Example } from '../data/examples.ts';
import { readExamples } from '../data/read-examples.ts';
import { renderExamples } from '../data/render/render-examples.ts';
import type { Renderer } from '../data/render/renderer.ts';
import { RowReport } from '../data/row-report.ts';
import { type dataSettingsSchema, parseDataSettings, readingOf, rendererFor } from '../data/settings.ts';
import { compareLosses, type LossComparison } from './compare/losses.ts';
import type { ModelBundle } from './model-bundle.ts';
import { type Losses, type ScoreProgress, type Sequence, scoreSequences } from './score.ts';

/** The texts or data files on which the loss is measured. */
export interface EvaluateOptions {
  /** Texts, which are measured as they are. Each text is one example. Give either `texts` or `data`. */
  readonly texts?: AsyncIterable<string> | Iterable<string>;
  /** Data files, folders or glob patterns, in any format of docs/data.md. */
  readonly data?: string | readonly string[];
  /** Settings for reading and rendering `data`, with the same keys as the block `data` of a config file. @default {} */
  readonly settings?: z.input<typeof dataSettingsSchema>;
  /** Called with each record of `data` that cannot be used. */
  readonly onBadRow?: (row: BadRow) => void;
  /** Maximum number of examples to use. The examples at the start of the data are used. @default all */
  readonly limit?: number | undefined;
  /** Other models of the same base, to compare with on the same examples. @default no comparison */
  readonly against?: ModelBundle | readonly ModelBundle[] | undefined;
  /** The current time, in milliseconds since 1970. A chat template may print the date. @default the time of the call */
  readonly now?: number;
  /** Called after each group of batches. */
  readonly onProgress?: ((progress: ScoreProgress) => void) | undefined;
  /** @default never aborts */
  readonly signal?: AbortSignal | undefined;
}

export interface ExamplesToEvaluate {
  readonly examples: AsyncIterable<Example> | Iterable<Example>;
  readonly renderer: Renderer;
  /** Receives the examples that cannot be rendered. */
  readonly report: RowReport;
  readonly limit?: number | undefined;
  readonly against?: readonly ModelBundle[] | undefined;
  readonly onProgress?: ((progress: ScoreProgress) => void) | undefined;
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
   * Loss of all supervised tokens in bits per UTF-8 byte of text, a measure that is comparable between tokenizers. With
   * `data`, the end of each text counts too. Null if an example is not plain text, because a template adds tokens that
   * are not in the data.
   */
  bitsPerByte: number | null;
  rows: number;
  /** Number of UTF-8 bytes of the examples; null if an example is not plain text. */
  bytes: number | null;
  /**
   * Number of records in `data`, and number of those records that could not be used; null if `texts` were evaluated.
   */
  read: RowSummary | null;
  /** Comparison with the loss of the first model in the option `against`; null without this option. */
  comparison: LossComparison | null;
  /** Comparisons with the losses of all models in the option `against`, in their order. */
  comparisons: readonly LossComparison[];
}

/**
 * Measures the loss of a model. Examples of `data` are rendered as for training, and the loss covers the tokens that
 * training would supervise. So it equals the held-out loss of a training run, if each example fits into one row of the
 * run. Each text of `texts` is one example, encoded with the special tokens that the tokenizer adds. The loss then
 * covers no end-of-text token, unless the tokenizer adds one. Every token but the first is predicted from all tokens
 * before it.
 *
 * An example longer than the window is scored in windows that overlap by half. Each token is predicted exactly once,
 * from at least half a window of preceding tokens if there are that many. The window is as long as the longest text
 * within the first 4 million tokens, but no longer than the model's context and no longer than 4,096 tokens. Memory
 * does not grow with the number of texts.
 *
 * With `against`, measures the other models on the same tokens, and compares the model with each of them, example by
 * example. Without a template in the settings, examples are rendered with the first template found in this order: the
 * adapter of the model, the adapters of `against`, the base.
 *
 * @throws SwarmError USAGE if texts and data are both missing or both given, or if the models have different bases;
 * EVALUATE_EMPTY without a token to predict;
 * DATA_*, TEMPLATE_*, ENGINE_*; the signal's reason
 */
export async function evaluate(bundle: ModelBundle, options: EvaluateOptions): Promise<Evaluation> {
  const { texts, data, onBadRow, onProgress, limit, now = Date.now(), signal } = options;
  const against = [options.against ?? []].flat();
  for (const other of against) checkSameBase(bundle, other);
  if (typeof texts === 'string') {
    throw commonError(
      'USAGE',
      'texts is a single text, expected a list of texts',
      {},
      { next: 'pass [text]' },
    );
  }
  if (texts !== undefined && data === undefined) {
    return score(textSequences(texts, bundle), bundle, { limit, against, onProgress, signal });
  }
  if (data === undefined || texts !== undefined) {
    const given = data === undefined ? 'neither texts nor data' : 'both texts and data';
    throw commonError(
      'USAGE',
      `${given} are given, expected one of the two`,
      {},
      { next: 'give either texts or data' },
    );
  }
  const parsed = parseDataSettings(options.settings ?? {});
  const templates = [bundle, ...against].map(({ adapter }) => adapter?.template);
  const own = templates.find((template) => template !== undefined && template !== null) ?? null;
  const settings = { ...parsed, template: parsed.template ?? own };
  const report = new RowReport({ badRowShare: settings.badRowShare, ...(onBadRow && { onBad: onBadRow }) });
  const renderer = await rendererFor(settings, { dir: bundle.model.dir, now }, bundle);
  try {
    const examples = readExamples(data, { ...readingOf(settings), ...(signal && { signal }), report });
    return await withAbortReason(signal, () =>
      evaluateExamples(bundle, { examples, renderer, report, limit, against, onProgress, signal }),
    );
  } finally {
    await renderer.close();
  }
}

/** Measures the loss as `evaluate` does, on examples from any source. */
export async function evaluateExamples(
  bundle: ModelBundle,
  { examples, renderer, report, ...options }: ExamplesToEvaluate,
): Promise<Evaluation> {
  const sequences = async function* (): AsyncGenerator<Sequence> {
    const rendering = { report, ...(options.signal && { signal: options.signal }) };
    for await (const { example, rendered } of renderExamples(examples, renderer, rendering)) {
      yield { ...rendered, bytes: example.kind === 'text' ? Buffer.byteLength(example.text) : null };
    }
    report.finish();
  };
  return { ...(await score(sequences(), bundle, options)), read: report.summary() };
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
  {
    limit,
    against = [],
    ...options
  }: Pick<ExamplesToEvaluate, 'limit' | 'against' | 'onProgress' | 'signal'>,
): Promise<Evaluation> {
  const used = limit === undefined ? sequences : firstOf(sequences, limit);
  const { losses, rows, bytes } = await scoreSequences(used, [bundle, ...against], options);
  const [own, ...others] = losses as [Losses, ...Losses[]];
  const { lossSum, tokens } = own;
  const loss = lossSum / tokens;
  const bitsPerByte = bytes === null ? null : lossSum / Math.LN2 / bytes;
  const comparisons = compareLosses(
    own.examples,
    others.map(({ examples }) => examples),
  );
  const comparison = comparisons[0] ?? null;
  const perplexity = Math.exp(loss);
  return { loss, tokens, perplexity, bitsPerByte, rows, bytes, read: null, comparison, comparisons };
}

async function* firstOf(sequences: AsyncGenerator<Sequence>, limit: number): AsyncGenerator<Sequence> {
  let count = 0;
  for await (const sequence of sequences) {
    yield sequence;
    if (++count >= limit) return;
  }
}

/**
 * Refuses models of different bases, because their tokenizers can differ. The same tokens would then mean different
 * texts.
 */
function checkSameBase({ model }: ModelBundle, against: ModelBundle): void {
  if (against.model.dir === model.dir) return;
  throw commonError(
    'USAGE',
    'models can be compared on data only if they have the same base',
    { base: model.dir, against: against.model.dir },
    { next: 'compare models of one base, or compare them on plain texts or on tasks' },
  );
}
