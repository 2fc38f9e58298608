import { HELD_OUT_ROWS } from '../coordinator/job-data.ts';
import { predictedTokens, type Row } from '../lora/data/packing.ts';
import { Random } from '../lora/data/random.ts';
import { readExamples } from '../lora/data/read-examples.ts';
import { type Renderer, textRenderer } from '../lora/data/render/renderer.ts';
import { RowReport } from '../lora/data/row-report.ts';
import { rowsOf } from '../lora/data/rows.ts';
import { type DataSettings, DEFAULT_DATA_SETTINGS, readingOf, rendererFor } from '../lora/data/settings.ts';
import type { TextTokenizer } from '../lora/data/tokenizer.ts';
import { SwarmError } from '../protocol/errors.ts';

/** Rows by number, wherever they lie: in memory, or on disk as `PackedData`. */
export interface RowSource {
  readonly rows: number;
  row(index: number): Row;
}

export interface PackFilesOptions {
  sequenceLength: number;
  signal: AbortSignal;
  /** @default those of a job */
  settings?: DataSettings;
  /** Where the chat template is, and the milliseconds since 1970 that it may print. null: plain text only. @default null */
  model?: { dir: string; now: number } | null;
}

/**
 * Files as packed rows in memory, with the number of tokens that they predict: for data of moderate size, such as
 * what is held out; `packData` is for all others.
 * @throws DATA_EMPTY, HELD_OUT_TOO_LARGE and as readExamples and renderExample
 */
export async function packFiles(
  paths: readonly string[],
  tokenizer: TextTokenizer,
  { sequenceLength, signal, settings = DEFAULT_DATA_SETTINGS, model = null }: PackFilesOptions,
): Promise<{ rows: Row[]; tokens: number }> {
  const renderer = model ? await rendererFor(settings, model, { tokenizer }) : textRenderer(tokenizer);
  try {
    return await pack(paths, renderer, { sequenceLength, signal, settings });
  } finally {
    await renderer.close();
  }
}

async function pack(
  paths: readonly string[],
  renderer: Renderer,
  { sequenceLength, signal, settings }: Required<Omit<PackFilesOptions, 'model'>>,
): Promise<{ rows: Row[]; tokens: number }> {
  const { badRowShare, packing, truncation } = settings;
  const report = new RowReport({ badRowShare });
  const examples = readExamples(paths, { ...readingOf(settings), signal, report });
  const rows: Row[] = [];
  let tokens = 0;
  const options = { sequenceLength, packing, truncation, report, signal };
  for await (const row of rowsOf(examples, renderer, options)) {
    rows.push(row);
    tokens += predictedTokens(row);
    if (rows.length <= HELD_OUT_ROWS) continue;
    throw new SwarmError(
      'HELD_OUT_TOO_LARGE',
      `${paths.join(', ')} makes more than ${HELD_OUT_ROWS} rows; a few hundred documents are enough to measure a loss`,
      { limit: HELD_OUT_ROWS },
    );
  }
  if (rows.length === 0) {
    throw new SwarmError('DATA_EMPTY', `there is no text to train on in ${paths.join(', ')}`, { paths });
  }
  return { rows, tokens };
}

/** Rows without end, each epoch in another order; the same seed gives the same order. */
export function* epochs(rows: readonly Row[] | RowSource, seed: number): Generator<Row, never, undefined> {
  const source: RowSource = isSource(rows) ? rows : { rows: rows.length, row: (index) => rows[index]! };
  for (let epoch = 0; ; epoch++) {
    const order = Array.from({ length: source.rows }, (_, index) => index);
    for (const index of new Random(seed, epoch).shuffle(order)) yield source.row(index);
  }
}

function isSource(rows: readonly Row[] | RowSource): rows is RowSource {
  return !Array.isArray(rows);
}
