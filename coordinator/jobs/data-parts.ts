import type { Example } from '../../lora/data/examples.ts';
import { packExamples } from '../../lora/data/packing/pack-examples.ts';
import type { PieceSet } from '../../lora/data/packing/piece-set.ts';
import { newTally } from '../../lora/data/packing/tally.ts';
import { readExamples } from '../../lora/data/read-examples.ts';
import type { Renderer } from '../../lora/data/render/renderer.ts';
import type { Row } from '../../lora/data/row.ts';
import { RowReport } from '../../lora/data/row-report.ts';
import { readingOf } from '../../lora/data/settings.ts';
import { cutShards } from '../../lora/data/shards/cut-shards.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import type { RowTally } from '../../protocol/api/job-creation.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import type { BlobStore } from '../../storage/blobs.ts';

type Paths = string | readonly string[];

/** A part of a job's examples, such as the training part. */
export interface DataPart {
  /** Numbers of records that were read, and of records that could not be used. */
  readonly report: RowReport;
  readonly tally: RowTally;
  /** The packed rows. The files are read while the caller iterates. */
  readonly rows: AsyncIterable<Row>;
}

export interface DataReaderOptions {
  readonly spec: Pick<JobSpec, 'data' | 'training'>;
  readonly signal: AbortSignal;
  /** Called after each packed example, with the number of examples packed so far. */
  readonly onExample: (done: number) => void;
}

/** Reads and packs the data files of a job. */
export class DataReader {
  readonly #options: DataReaderOptions;
  readonly #renderer: Renderer;
  #done = 0;

  constructor(options: DataReaderOptions, deps: { renderer: Renderer }) {
    this.#options = options;
    this.#renderer = deps.renderer;
  }

  /** Returns the number of examples in files. @throws SwarmError DATA_* */
  async count(paths: Paths): Promise<number> {
    let examples = 0;
    for await (const _ of this.#read(paths, this.#report())) examples++;
    return examples;
  }

  /**
   * Packs the examples of files that belong to a part.
   * @param wanted returns whether an example belongs to the part. It gets the index of the example in reading order
   * @param heldOut pieces of the held-out samples in packed rows. A sample is left out if all its pieces are in this
   *   set
   * @param other report of another part of the same files, which was read completely. It has already counted the
   *   records of the files. It also counts the examples of this part that cannot be rendered
   * @param moreFollow whether another part uses this part's report. The share of bad records is checked after that part
   */
  part(
    paths: Paths,
    wanted: (index: number) => boolean,
    { heldOut, other, moreFollow }: { heldOut?: PieceSet; other?: RowReport; moreFollow?: boolean } = {},
  ): DataPart {
    const { spec, signal } = this.#options;
    const { packing, truncation } = spec.data;
    const { sequenceLength } = spec.training;
    const report = other ?? this.#report();
    const tally = newTally();
    const packed = {
      sequenceLength,
      packing,
      truncation,
      report,
      tally,
      signal,
      ...(heldOut && { heldOut }),
      ...(moreFollow && { moreFollow }),
    };
    const examples = this.#chosen(paths, other === undefined ? report : report.again(), wanted);
    return { report, tally, rows: packExamples(examples, this.#renderer, packed) };
  }

  async *#chosen(
    paths: Paths,
    report: RowReport,
    wanted: (index: number) => boolean,
  ): AsyncGenerator<Example> {
    let index = 0;
    for await (const example of this.#read(paths, report)) {
      if (!wanted(index++)) continue;
      yield example;
      this.#options.onExample(++this.#done);
    }
  }

  #read(paths: Paths, report: RowReport): AsyncIterable<Example> {
    const { spec, signal } = this.#options;
    return readExamples(paths, { ...readingOf(spec.data), signal, report });
  }

  #report(): RowReport {
    return new RowReport({ badRowShare: this.#options.spec.data.badRowShare });
  }
}

/** Stores rows as data shards. Returns the shards, and the numbers of rows and supervised tokens in them. */
export async function storeShards(
  rows: AsyncIterable<Row>,
  options: { sequenceLength: number; vocabSize: number },
  { blobs }: { blobs: Pick<BlobStore, 'put'> },
): Promise<Pick<Manifest['data'], 'rows' | 'tokens' | 'shards'>> {
  const stored = { rows: 0, tokens: 0, shards: [] as Manifest['data']['shards'] };
  for await (const shard of cutShards(rows, options)) {
    const digest = await blobs.put(shard.bytes);
    stored.shards.push({ digest, size: shard.bytes.byteLength, rows: shard.rows });
    stored.rows += shard.rows;
    stored.tokens += shard.tokens;
  }
  return stored;
}
