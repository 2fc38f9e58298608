import type { Clock } from '../../common/time/clock.ts';
import { dataError } from '../../lora/data/errors.ts';
import { chooseHeldOut } from '../../lora/data/held-out-choice.ts';
import { HeldOutOverlap } from '../../lora/data/packing/held-out-overlap.ts';
import { whyNoRows } from '../../lora/data/packing/tally.ts';
import type { Renderer } from '../../lora/data/render/renderer.ts';
import { predictedTokens, type Row } from '../../lora/data/row.ts';
import { rendererFor } from '../../lora/data/settings.ts';
import { encodeShards } from '../../lora/data/shards/shard-codec.ts';
import type { TextTokenizer } from '../../lora/data/tokenizer.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import type { PartCounts, RowSummary, RowTally } from '../../protocol/api/job-creation.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import type { BlobStore } from '../../storage/blobs.ts';
import { coordinatorError } from '../errors.ts';
import { DataReader, storeShards } from './data-parts.ts';

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
  /** The same counts for the held-out part of the data; null for a copy of a job, which keeps its held-out rows. */
  readonly heldOutPart: PartCounts | null;
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
  { spec, signal, tokenizer, onProgress }: JobDataOptions,
  { blobs }: JobDataDeps,
  renderer: Renderer,
): Promise<JobData> {
  const { train, heldOut } = spec.data;
  const { sequenceLength } = spec.training;
  let total = 0;
  const options = { spec, signal, onExample: (done: number) => onProgress(done, total) };
  const reader = new DataReader(options, { renderer });
  const examples = await reader.count(train);
  const chosen = typeof heldOut === 'number' ? chooseHeldOut(examples, heldOut) : () => false;
  total = examples + (typeof heldOut === 'number' ? 0 : await reader.count(heldOut));

  const checked =
    typeof heldOut === 'number'
      ? reader.part(train, chosen, { moreFollow: true })
      : reader.part(heldOut, () => true);
  const heldOutRows: Row[] = [];
  for await (const row of checked.rows) {
    heldOutRows.push(row);
    if (heldOutRows.length <= HELD_OUT_ROWS) continue;
    throw coordinatorError('HELD_OUT_TOO_LARGE', `the held-out data fills more than ${HELD_OUT_ROWS} rows`, {
      limit: HELD_OUT_ROWS,
    });
  }
  const training =
    typeof heldOut === 'number'
      ? reader.part(train, (index) => !chosen(index), { other: checked.report })
      : reader.part(train, () => true);
  const { vocabSize } = tokenizer;
  const overlap = new HeldOutOverlap(() => heldOutRows);
  const watched = async function* (): AsyncGenerator<Row> {
    for await (const row of training.rows) {
      overlap.addTraining(row);
      yield row;
    }
  };
  const trained = await storeShards(watched(), { sequenceLength, vocabSize }, { blobs });
  if (heldOutRows.length === 0 || trained.rows === 0) {
    const which = trained.rows === 0 ? 'training' : 'held-out';
    const { tally } = trained.rows === 0 ? training : checked;
    throw dataError('DATA_TOO_SMALL', `the ${which} data has no usable row: ${whyNoRows(tally)}`, {
      which,
      trainingRows: trained.rows,
      heldOutRows: heldOutRows.length,
    });
  }
  const encoded = encodeCbor(encodeShards(heldOutRows));
  const template = spec.data.template === null ? undefined : renderer.sources?.templates.default;
  const tokens = heldOutRows.reduce((sum, row) => sum + predictedTokens(row), 0);
  return {
    data: {
      ...trained,
      sequenceLength,
      heldOut: { digest: sha256(encoded), rows: heldOutRows.length, tokens },
      ...(template !== undefined && { chatTemplate: template }),
    },
    heldOut: encoded,
    read: training.report.summary(),
    tally: training.tally,
    heldOutPart: {
      read: typeof heldOut === 'number' ? null : checked.report.summary(),
      tally: checked.tally,
      overlap: overlap.share(),
    },
  };
}
