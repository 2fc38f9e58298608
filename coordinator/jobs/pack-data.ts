import type { Clock } from '../../common/clock.ts';
import { dataError } from '../../lora/data/errors.ts';
import type { Example } from '../../lora/data/examples.ts';
import { chooseHeldOut } from '../../lora/data/held-out-choice.ts';
import { packExamples } from '../../lora/data/packing/pack-examples.ts';
import { newTally, type RowTally, whyNoRows } from '../../lora/data/packing/tally.ts';
import { readExamples } from '../../lora/data/read-examples.ts';
import type { Renderer } from '../../lora/data/render/renderer.ts';
import { predictedTokens, type Row } from '../../lora/data/row.ts';
import { RowReport, type RowSummary } from '../../lora/data/row-report.ts';
import { readingOf, rendererFor } from '../../lora/data/settings.ts';
import { cutShards } from '../../lora/data/shards/cut-shards.ts';
import { encodeShards } from '../../lora/data/shards/shard-codec.ts';
import type { TextTokenizer } from '../../lora/data/tokenizer.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import type { Manifest } from '../../protocol/manifest.ts';
import type { BlobStore } from '../../storage/blobs.ts';
import { coordinatorError } from '../errors.ts';

export interface JobData {
  /** The `data` entry of the manifest. It names the training shards, which are stored as blobs. */
  readonly data: Manifest['data'];
  /**
   * Packed held-out rows, encoded as `decodeHeldOut` reads them. They are not stored as a blob, because peers can fetch
   * blobs, and held-out data must stay secret.
   */
  readonly heldOut: Uint8Array;
  /** Number of records in the training files, and number of records that could not be read or rendered. */
  readonly read: RowSummary;
  /** Counts of the training samples that were packed, cut or left out. */
  readonly tally: RowTally;
}

export interface JobDataOptions {
  readonly spec: Pick<JobSpec, 'base' | 'data' | 'training' | 'seed'>;
  readonly tokenizer: TextTokenizer;
  readonly signal: AbortSignal;
  /** Called with the number of examples packed so far, and the number of all examples. */
  readonly onProgress: (done: number, total: number) => void;
}

export interface JobDataDeps {
  readonly blobs: Pick<BlobStore, 'put'>;
  readonly clock: Pick<Clock, 'now'>;
}

/**
 * Maximum number of held-out rows. While the coordinator evaluates them, they take up to 10 bytes of its memory per
 * token.
 */
const HELD_OUT_ROWS = 65_536;

/**
 * Reads a job's examples, splits off the held-out examples, and renders and packs both parts. Stores the training rows
 * as blobs. The data may be larger than memory, so it is read three times: to count the examples, to pack the held-out
 * part, and to pack the training part.
 * @throws SwarmError DATA_*, TEMPLATE_*, HELD_OUT_TOO_LARGE, STORE_FULL
 */
export async function packJobData(options: JobDataOptions, deps: JobDataDeps): Promise<JobData> {
  const { spec, tokenizer } = options;
  const renderer = await rendererFor(spec.data, { dir: spec.base, now: deps.clock.now() }, { tokenizer });
  try {
    return await packRendered(options, deps, renderer);
  } finally {
    await renderer.close();
  }
}

async function packRendered(
  options: JobDataOptions,
  { blobs }: JobDataDeps,
  renderer: Renderer,
): Promise<JobData> {
  const { spec, signal, tokenizer } = options;
  const { train, heldOut: apart, badRowShare, packing, truncation } = spec.data;
  const { sequenceLength } = spec.training;
  const reading = readingOf(spec.data);
  const count = async (paths: string | readonly string[]): Promise<number> => {
    const report = new RowReport({ badRowShare });
    let examples = 0;
    for await (const _ of readExamples(paths, { ...reading, signal, report })) examples++;
    return examples;
  };
  const examples = await count(train);
  const chosen = typeof apart === 'number' ? chooseHeldOut(examples, apart, spec.seed) : () => false;
  const total = examples + (typeof apart === 'number' ? 0 : await count(apart));

  let done = 0;
  const part = (paths: string | readonly string[], wanted: (index: number) => boolean) => {
    const report = new RowReport({ badRowShare });
    const tally = newTally();
    const some = async function* (): AsyncGenerator<Example> {
      let index = 0;
      for await (const example of readExamples(paths, { ...reading, signal, report })) {
        if (!wanted(index++)) continue;
        yield example;
        options.onProgress(++done, total);
      }
    };
    const packed = { sequenceLength, packing, truncation, report, tally, signal };
    return { report, tally, rows: packExamples(some(), renderer, packed) };
  };

  const checked = typeof apart === 'number' ? part(train, chosen) : part(apart, () => true);
  const heldOutRows: Row[] = [];
  for await (const row of checked.rows) {
    heldOutRows.push(row);
    if (heldOutRows.length <= HELD_OUT_ROWS) continue;
    throw coordinatorError('HELD_OUT_TOO_LARGE', `the held-out data fills more than ${HELD_OUT_ROWS} rows`, {
      limit: HELD_OUT_ROWS,
    });
  }
  const training = part(train, (index) => !chosen(index));
  const trained = { rows: 0, tokens: 0, shards: [] as Manifest['data']['shards'] };
  for await (const shard of cutShards(training.rows, { sequenceLength, vocabSize: tokenizer.vocabSize })) {
    const digest = await blobs.put(shard.bytes);
    trained.shards.push({ digest, size: shard.bytes.byteLength, rows: shard.rows });
    trained.rows += shard.rows;
    trained.tokens += shard.tokens;
  }
  if (heldOutRows.length === 0 || trained.rows === 0) {
    const which = trained.rows === 0 ? 'training' : 'held-out';
    const { tally } = trained.rows === 0 ? training : checked;
    throw dataError('DATA_TOO_SMALL', `the ${which} data has no usable row: ${whyNoRows(tally)}`, {
      which,
      trainingRows: trained.rows,
      heldOutRows: heldOutRows.length,
    });
  }
  const heldOut = encodeCbor(encodeShards(heldOutRows));
  const template = spec.data.template === null ? undefined : renderer.sources?.templates.default;
  const tokens = heldOutRows.reduce((sum, row) => sum + predictedTokens(row), 0);
  return {
    data: {
      ...trained,
      sequenceLength,
      heldOut: { digest: sha256(heldOut), rows: heldOutRows.length, tokens },
      ...(template !== undefined && { chatTemplate: template }),
    },
    heldOut,
    read: training.report.summary(),
    tally: training.tally,
  };
}
