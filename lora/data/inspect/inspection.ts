/** Data as a model would see it: rendered, counted and checked in one pass over the files. */
import type { Example } from '../examples.ts';
import { SamplePacker } from '../packing/pack-examples.ts';
import { newTally, type RowTally } from '../packing/tally.ts';
import { readExamples } from '../read-examples.ts';
import { type RenderedExample, renderExamples } from '../render/render-examples.ts';
import type { Renderer } from '../render/renderer.ts';
import { RowReport, type RowSummary } from '../row-report.ts';
import { SeededRandom } from '../seeded-random.ts';
import { type DataSettings, readingOf } from '../settings.ts';
import { type DuplicateCount, Duplicates } from './duplicates.ts';
import { type LengthSummary, Lengths } from './lengths.ts';
import { type NodeShare, nodeShare } from './node-shares.ts';
import { Overlap, type OverlapCount } from './overlap.ts';
import { type SpecialTokenCount, SpecialTokens } from './special-tokens.ts';
import { type ShownToken, tokenTexts } from './token-texts.ts';

/** Tokens of a sample that are shown. */
const SHOWN_TOKENS = 4096;

export interface InspectOptions {
  data: readonly string[];
  /** null: there is none to compare with. */
  heldOut: readonly string[] | null;
  settings: DataSettings;
  sequenceLength: number;
  nodes: number;
  /** Samples shown, chosen at random but the same every time. */
  samples: number;
  /** Training examples looked at. null: all. */
  limit: number | null;
  signal: AbortSignal;
  onProgress?: (done: number, total: number, samples: number) => void;
}

export interface ShownSample {
  origin: Example['origin'];
  kind: Example['kind'];
  tokens: ShownToken[];
  /** Tokens after those. */
  more: number;
  /** Trained tokens, those that are not shown among them. */
  trained: number;
}

export interface Inspection {
  sequenceLength: number;
  /** Where the chat template is from; null: the model has none and none was given. */
  template: string | null;
  /** Samples by kind. */
  kinds: Partial<Record<Example['kind'], number>>;
  read: RowSummary;
  /** Of the held-out data; null where there is none. */
  heldOutRead: RowSummary | null;
  tally: RowTally;
  /** Share of the rows' places that hold tokens. */
  fill: number | null;
  lengths: LengthSummary | null;
  specialTokens: SpecialTokenCount;
  duplicates: DuplicateCount;
  overlap: OverlapCount | null;
  share: NodeShare;
  samples: ShownSample[];
  /** Whether `limit` ended it. */
  partial: boolean;
}

/** @throws as readExamples and renderExample, but for single rows, which are counted */
export async function inspectData(options: InspectOptions, renderer: Renderer): Promise<Inspection> {
  const { data, heldOut, settings, sequenceLength, limit } = options;
  const { packing, truncation } = settings;
  const duplicates = new Duplicates();
  const overlap = heldOut === null ? null : new Overlap({}, { training: duplicates });
  if (heldOut !== null) {
    for await (const { rendered } of renderedOf(heldOut, options, renderer)) overlap!.addHeldOut(rendered);
  }

  const counted = {
    kinds: {} as Inspection['kinds'],
    tally: newTally(),
    lengths: new Lengths(),
    special: new SpecialTokens(renderer),
    shown: new Reservoir(options.samples),
  };
  const packer = new SamplePacker({ sequenceLength, packing, truncation, tally: counted.tally }, renderer);
  const report = new RowReport({ badRowShare: 1 });
  let partial = false;
  for await (const sample of renderedOf(data, options, renderer, report)) {
    const { example, rendered } = sample;
    if (limit !== null && counted.tally.samples >= limit) {
      partial = true;
      break;
    }
    counted.kinds[example.kind] = (counted.kinds[example.kind] ?? 0) + 1;
    counted.lengths.add(rendered.ids.length);
    counted.special.add(rendered);
    duplicates.add(example.origin, rendered);
    counted.shown.add(sample);
    overlap?.addTraining(rendered);
    drain(packer.add(example.kind, rendered));
  }
  drain(packer.finish());

  const heldOutReport = new RowReport({ badRowShare: 1 });
  if (heldOut !== null) {
    for await (const { example, rendered } of renderedOf(heldOut, options, renderer, heldOutReport)) {
      overlap!.judge(example.origin, rendered);
    }
  }
  const { tally } = counted;
  const { tokenizer, sources } = renderer;
  return {
    sequenceLength,
    template: sources?.origin ?? null,
    kinds: counted.kinds,
    read: report.summary(),
    heldOutRead: heldOut === null ? null : heldOutReport.summary(),
    tally,
    fill: tally.rows === 0 ? null : tally.rowTokens / (tally.rows * sequenceLength),
    lengths: counted.lengths.summary(),
    specialTokens: counted.special.result(),
    duplicates: duplicates.result(),
    overlap: overlap?.result() ?? null,
    share: nodeShare(tally, { nodes: options.nodes, sequenceLength, vocabSize: tokenizer.vocabSize }),
    samples: counted.shown.samples().map((sample) => show(sample, renderer)),
    partial,
  };
}

function renderedOf(
  paths: readonly string[],
  { settings, signal, onProgress }: InspectOptions,
  renderer: Renderer,
  report = new RowReport({ badRowShare: 1 }),
): AsyncGenerator<RenderedExample> {
  let samples = 0;
  let bytes = { done: 0, total: 0 };
  const examples = readExamples(paths, {
    ...readingOf(settings),
    signal,
    report,
    onProgress: (done, total) => {
      bytes = { done, total };
    },
  });
  const counted = async function* () {
    for await (const example of examples) {
      onProgress?.(bytes.done, bytes.total, ++samples);
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

/** Some samples of a stream, each with the same chance (Vitter 1985, algorithm R), in the order of the stream. */
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
