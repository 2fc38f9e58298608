import type { Example } from '../examples.ts';
import { SamplePacker } from '../packing/pack-examples.ts';
import { newTally } from '../packing/tally.ts';
import { readExamples } from '../read-examples.ts';
import { type RenderedExample, renderExamples } from '../render/render-examples.ts';
import type { Renderer } from '../render/renderer.ts';
import { RowReport } from '../row-report.ts';
import { SeededRandom } from '../seeded-random.ts';
import { type DataSettings, dataSettingsSchema, readingOf, rendererFor } from '../settings.ts';
import { loadTokenizer } from '../tokenizer.ts';
import { DuplicateCounter } from './duplicates.ts';
import { findingsOf } from './findings.ts';
import type { Inspection, InspectionCounts, ShownSample } from './inspection.ts';
import { LengthCounter } from './lengths.ts';
import { nodeShare } from './node-share.ts';
import { OverlapCounter } from './overlap.ts';
import { SpecialTokenCounter } from './special-tokens.ts';
import { tokenTexts } from './token-texts.ts';

/** Maximum number of tokens shown of one sample. */
const SHOWN_TOKENS = 4096;

export interface InspectOptions {
  /** Folder of the base model, whose tokenizer and chat template are used. */
  modelDir: string;
  /** Training data: files, folders or patterns, see `dataFiles`. */
  data: readonly string[];
  /** Held-out data to compare with the training data. @default null */
  heldOut?: readonly string[] | null;
  /** Settings for reading, rendering and packing the data. @default the defaults of dataSettingsSchema */
  settings?: DataSettings;
  /** Number of tokens in a packed row (T). */
  sequenceLength: number;
  /** Number of nodes that would share a job over this data. @default 4 */
  nodes?: number;
  /**
   * Number of samples to show. They are chosen at random, but the choice is the same whenever the same data is
   * inspected. @default 3
   */
  samples?: number;
  /** Number of training samples after which the inspection stops; null to inspect all of them. @default null */
  limit?: number | null;
  /** The current time, in milliseconds since 1970. Chat templates can print the date. */
  now: number;
  signal?: AbortSignal;
  /** Called for every example read. */
  onProgress?: (progress: InspectProgress) => void;
}

export interface InspectProgress {
  /**
   * Bytes read from the current data set so far. The held-out data is read before the training data, and again after
   * it.
   */
  readonly bytes: number;
  /** Size of the current data set in bytes. */
  readonly totalBytes: number;
  /** Number of examples read from the current data set so far. */
  readonly examples: number;
}

/**
 * Reads data as training would, renders and packs it, and reports what a model would learn from it. Makes one pass over
 * the training data and two over the held-out data. Memory does not grow with the data.
 *
 * Records that cannot be used are counted; they do not stop the inspection.
 *
 * @throws DATA_*, TEMPLATE_* and TOKENIZER_* errors that concern a whole file or model; the abort reason of `signal`
 */
export async function inspect(options: InspectOptions): Promise<Inspection> {
  const { modelDir, settings = dataSettingsSchema.parse({}), now } = options;
  const tokenizer = await loadTokenizer(modelDir);
  const renderer = await rendererFor(settings, { dir: modelDir, now }, { tokenizer });
  try {
    const counts = await count({ ...options, settings }, renderer);
    return { ...counts, findings: findingsOf(counts, settings) };
  } finally {
    await renderer.close();
  }
}

type CountOptions = InspectOptions & { settings: DataSettings };

async function count(options: CountOptions, renderer: Renderer): Promise<InspectionCounts> {
  const { data, heldOut = null, settings, sequenceLength, limit = null } = options;
  const { nodes = 4, samples = 3 } = options;
  const { packing, truncation } = settings;
  const duplicates = new DuplicateCounter();
  const overlap = heldOut === null ? null : new OverlapCounter({ training: duplicates });
  if (heldOut !== null) {
    for await (const { rendered } of renderedOf(heldOut, options, renderer)) overlap!.addHeldOut(rendered);
  }

  const kinds: InspectionCounts['kinds'] = {};
  const lengths = new LengthCounter();
  const special = new SpecialTokenCounter(renderer);
  const shown = new Reservoir(samples);
  const tally = newTally();
  const packer = new SamplePacker({ sequenceLength, packing, truncation, tally }, renderer);
  const report = new RowReport({ badRowShare: 1 });
  let partial = false;
  for await (const sample of renderedOf(data, options, renderer, report)) {
    const { example, rendered } = sample;
    if (limit !== null && tally.samples >= limit) {
      partial = true;
      break;
    }
    kinds[example.kind] = (kinds[example.kind] ?? 0) + 1;
    lengths.add(rendered.ids.length);
    special.add(rendered);
    duplicates.add(example.origin, rendered);
    shown.add(sample);
    overlap?.addTraining(rendered);
    drain(packer.add(example, rendered));
  }
  drain(packer.finish());

  const heldOutReport = new RowReport({ badRowShare: 1 });
  if (heldOut !== null) {
    for await (const { example, rendered } of renderedOf(heldOut, options, renderer, heldOutReport)) {
      overlap!.judge(example.origin, rendered);
    }
  }
  const { tokenizer, sources } = renderer;
  return {
    sequenceLength,
    template: sources?.origin ?? null,
    kinds,
    read: report.summary(),
    heldOutRead: heldOut === null ? null : heldOutReport.summary(),
    tally,
    fill: tally.rows === 0 ? null : tally.rowTokens / (tally.rows * sequenceLength),
    lengths: lengths.summary(),
    specialTokens: special.result(),
    duplicates: duplicates.result(),
    overlap: overlap?.result() ?? null,
    share: nodeShare(tally, { nodes, sequenceLength, vocabSize: tokenizer.vocabSize }),
    samples: shown.samples().map((sample) => show(sample, renderer)),
    partial,
  };
}

function renderedOf(
  paths: readonly string[],
  { settings, signal, onProgress }: CountOptions,
  renderer: Renderer,
  report = new RowReport({ badRowShare: 1 }),
): AsyncGenerator<RenderedExample> {
  let progress: InspectProgress = { bytes: 0, totalBytes: 0, examples: 0 };
  const examples = readExamples(paths, {
    ...readingOf(settings),
    signal,
    report,
    onProgress: (bytes, totalBytes) => {
      progress = { ...progress, bytes, totalBytes };
    },
  });
  const counted = async function* (): AsyncGenerator<Example> {
    for await (const example of examples) {
      progress = { ...progress, examples: progress.examples + 1 };
      onProgress?.(progress);
      yield example;
    }
  };
  return renderExamples(counted(), renderer, { report, signal, countTemplateBreaks: true });
}

function show({ example, rendered }: RenderedExample, { tokenizer }: Renderer): ShownSample {
  const { ids, trained } = rendered;
  return {
    origin: example.origin,
    kind: example.kind,
    tokens: tokenTexts(ids.slice(0, SHOWN_TOKENS), trained, tokenizer),
    more: Math.max(0, ids.length - SHOWN_TOKENS),
    trained: trained.reduce((sum, one) => sum + one, 0),
  };
}

function drain(rows: Iterable<unknown>): void {
  for (const _ of rows);
}

/** Chooses samples of a stream with equal probability (Vitter 1985, algorithm R) and returns them in stream order. */
class Reservoir {
  readonly #size: number;
  readonly #random = new SeededRandom(1);
  readonly #kept: { number: number; sample: RenderedExample }[] = [];
  #seen = 0;

  constructor(size: number) {
    this.#size = size;
  }

  add(sample: RenderedExample): void {
    const number = this.#seen++;
    const place = number < this.#size ? number : this.#random.integer(this.#seen);
    if (place < this.#size) this.#kept[place] = { number, sample };
  }

  samples(): RenderedExample[] {
    return this.#kept.sort((a, b) => a.number - b.number).map(({ sample }) => sample);
  }
}
