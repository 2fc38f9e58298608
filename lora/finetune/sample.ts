import { dataError } from '../data/errors.ts';
import { readExamples } from '../data/read-examples.ts';
import { renderExamples } from '../data/render/render-examples.ts';
import { RowReport } from '../data/row-report.ts';
import { type DataSettings, readingOf, rendererFor } from '../data/settings.ts';
import type { TextTokenizer } from '../data/tokenizer.ts';
import type { TrainSpec } from './settings/settings.ts';

/**
 * Number of samples to read. With this number, reading takes a second or two, and the estimates have an error of a few
 * per cent.
 */
const SAMPLES = 1_000;
/** Number of tokens to read. Plain text reaches TOKENS before SAMPLES, because its documents are few and long. */
const TOKENS = 300_000;

export interface DataSample {
  /**
   * Number of tokens of the whole data without the first token of each sample, which no row predicts, and number of
   * supervised tokens among them.
   */
  readonly tokens: number;
  readonly trainedTokens: number;
  /** 95 % of the samples have at most this many tokens. */
  readonly commonLength: number;
  /** Whether all samples are plain text, which is cut into rows. */
  readonly plainText: boolean;
  /** Estimates how many rows of this length the data fills. */
  rows(sequenceLength: number): number;
  /** Whether all data was read. If not, the totals are extrapolated from the part of the bytes that was read. */
  readonly exact: boolean;
}

export interface SampleOptions {
  paths: readonly string[];
  settings: DataSettings;
  /** Folder of the base, which has the tokenizer and the chat template. */
  modelDir: string;
  /** The current time, in milliseconds since 1970. */
  now: number;
  signal: AbortSignal;
}

/** Reads the beginning of the data and estimates its total tokens. @throws SwarmError DATA_*, TEMPLATE_*, DATA_EMPTY */
export async function sampleData(
  { paths, settings, modelDir, now, signal }: SampleOptions,
  { tokenizer }: { tokenizer: TextTokenizer },
): Promise<DataSample> {
  const renderer = await rendererFor(settings, { dir: modelDir, now }, { tokenizer });
  const report = new RowReport({ badRowShare: settings.badRowShare });
  const lengths: number[] = [];
  const seen = { bytes: 0, samples: 0, tokens: 0, trained: 0 };
  // A copy of `seen` from a moment at which all samples in the bytes read so far were counted. A file is read in pieces,
  // and `seen.bytes` already includes a whole piece before the samples of the piece are counted. The copy is therefore
  // renewed whenever the next piece is read.
  let known = { ...seen };
  let total = 0;
  const onProgress = (done: number, all: number): void => {
    if (seen.tokens !== known.tokens) known = { ...seen };
    seen.bytes = done;
    total = all;
  };
  let plainText = true;
  let exact = true;
  try {
    const examples = readExamples(paths, { ...readingOf(settings), signal, report, onProgress });
    for await (const { example, rendered } of renderExamples(examples, renderer, { report, signal })) {
      lengths.push(rendered.ids.length);
      seen.samples++;
      // No row predicts the first token of a sample, so it is not counted.
      seen.tokens += rendered.ids.length - 1;
      seen.trained += rendered.trained.subarray(1).reduce((sum, one) => sum + one, 0);
      plainText &&= example.kind === 'text';
      if (known.tokens === 0 || (lengths.length < SAMPLES && seen.tokens < TOKENS)) continue;
      exact = false;
      break;
    }
    if (exact) report.finish();
  } finally {
    await renderer.close();
  }
  if (exact && seen.trained === 0) {
    throw dataError('DATA_EMPTY', `no sample to train on in ${paths.join(', ')}`, { paths });
  }
  lengths.sort((a, b) => a - b);
  const part = exact ? 1 : known.bytes / total;
  const { samples, tokens, trained } = exact ? seen : known;
  return {
    tokens: Math.round(tokens / part),
    trainedTokens: Math.round(trained / part),
    commonLength: lengths[Math.floor(0.95 * (lengths.length - 1))]!,
    plainText,
    exact,
    rows: (sequenceLength) =>
      plainText
        ? Math.ceil((cutRows(lengths, sequenceLength) * tokens) / part / seen.tokens)
        : Math.ceil((packedRows(lengths, sequenceLength) * samples) / part / lengths.length),
  };
}

/**
 * Returns the part of a sample that a run trains on.
 * @param heldOut the held-out data of the run: a share of the training examples, or other files, or none
 */
export function trainingPart(sample: DataSample, heldOut: TrainSpec['data']['heldOut']): DataSample {
  const share = typeof heldOut === 'number' ? 1 - heldOut : 1;
  return {
    ...sample,
    tokens: Math.round(share * sample.tokens),
    trainedTokens: Math.round(share * sample.trainedTokens),
    rows: (sequenceLength) => Math.ceil(share * sample.rows(sequenceLength)),
  };
}

/** Estimates the number of rows of texts that are cut into rows. The ends of texts share rows. @param lengths as in `packedRows` */
function cutRows(lengths: readonly number[], sequenceLength: number): number {
  const inputs = lengths.map((length) => length - 1);
  const full = inputs.reduce((rows, one) => rows + Math.floor(one / sequenceLength), 0);
  const ends = inputs.map((one) => one % sequenceLength).filter((end) => end > 0);
  return (
    full +
    packedRows(
      ends.map((end) => end + 1).sort((a, b) => a - b),
      sequenceLength,
    )
  );
}

/**
 * Estimates the number of rows of packed samples, by packing them first-fit decreasing. A sample may have one token
 * more than a row, because its last token is predicted and is not an input.
 * @param lengths in ascending order
 */
function packedRows(lengths: readonly number[], sequenceLength: number): number {
  const free: number[] = [];
  for (const length of lengths.toReversed()) {
    const size = Math.min(length - 1, sequenceLength);
    const row = free.findIndex((left) => left >= size);
    if (row === -1) free.push(sequenceLength - size);
    else free[row] = free[row]! - size;
  }
  return free.length;
}
