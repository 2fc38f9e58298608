import { readExamples } from '../../lora/data/read-examples.ts';
import { RowReport } from '../../lora/data/row-report.ts';
import { renderAll } from '../../lora/data/rows.ts';
import { type DataSettings, readingOf, rendererFor } from '../../lora/data/settings.ts';
import type { TextTokenizer } from '../../lora/data/tokenizer.ts';
import { SwarmError } from '../../protocol/errors.ts';

/** Enough for a median and a total that are a few per cent off; read in a second or two. */
const SAMPLES = 1_000;
/** Plain text comes in few and long documents. */
const TOKENS = 300_000;

export interface DataSample {
  /** Tokens of all samples, and those of them that give a loss, over the whole data. */
  readonly tokens: number;
  readonly trainedTokens: number;
  /** Tokens that 95 % of the samples stay within. */
  readonly commonLength: number;
  /** Nothing but plain text, which is cut into rows. */
  readonly plainText: boolean;
  /** Whether everything was read; else the totals are extrapolated from the bytes. */
  readonly exact: boolean;
}

export interface SampleOptions {
  paths: readonly string[];
  settings: DataSettings;
  /** Of the tokenizer and the chat template. */
  modelDir: string;
  /** Milliseconds since 1970. */
  now: number;
  signal: AbortSignal;
}

/** Reads the beginning of the data. @throws DATA_*, TEMPLATE_*, DATA_EMPTY */
export async function sampleData(
  { paths, settings, modelDir, now, signal }: SampleOptions,
  { tokenizer }: { tokenizer: TextTokenizer },
): Promise<DataSample> {
  const renderer = await rendererFor(settings, { dir: modelDir, now }, { tokenizer });
  const report = new RowReport({ badRowShare: settings.badRowShare });
  let share = 1;
  const onProgress = (done: number, total: number): void => {
    share = total === 0 ? 1 : done / total;
  };
  const lengths: number[] = [];
  let tokens = 0;
  let trained = 0;
  let plainText = true;
  let exact = true;
  try {
    const examples = readExamples(paths, { ...readingOf(settings), signal, report, onProgress });
    for await (const { example, rendered } of renderAll(examples, renderer, { report, signal })) {
      lengths.push(rendered.ids.length);
      tokens += rendered.ids.length;
      trained += rendered.trained.reduce((sum, one) => sum + one, 0);
      plainText &&= example.kind === 'text';
      // What is left of the last piece of the last file is soon read, and then nothing is extrapolated.
      if ((lengths.length < SAMPLES && tokens < TOKENS) || share >= 1) continue;
      exact = false;
      break;
    }
  } finally {
    await renderer.close();
  }
  if (lengths.length === 0) {
    throw new SwarmError('DATA_EMPTY', `there is nothing to train on in ${paths.join(', ')}`, { paths });
  }
  lengths.sort((a, b) => a - b);
  const whole = exact ? 1 : share;
  return {
    tokens: Math.round(tokens / whole),
    trainedTokens: Math.round(trained / whole),
    commonLength: lengths[Math.floor(0.95 * (lengths.length - 1))]!,
    plainText,
    exact,
  };
}
