import type { BadRow, RowSummary } from '../../protocol/api/job-creation.ts';
import { dataError } from '../data/errors.ts';
import { chooseHeldOut } from '../data/held-out-choice.ts';
import { type ExamplePart, type PackFilesOptions, packFiles } from '../data/pack-files.ts';
import { HeldOutOverlap, overlapWarning } from '../data/packing/held-out-overlap.ts';
import { readExamples } from '../data/read-examples.ts';
import type { Row } from '../data/row.ts';
import { RowReport } from '../data/row-report.ts';
import { type DataSettings, dataSettingsSchema, readingOf } from '../data/settings.ts';
import type { StoredRows } from '../data/stored-rows.ts';
import type { TextTokenizer } from '../data/tokenizer.ts';
import type { FinetuneListener, PackedPart } from './listener.ts';
import type { TrainSpec } from './settings/settings.ts';

export interface RunDataOptions {
  /** Folder where packed rows are kept between runs. */
  cacheDir: string;
  /** The current time, in milliseconds since 1970. Chat templates can print the date. */
  now: number;
  signal: AbortSignal;
}

export interface RunDataDeps {
  tokenizer: TextTokenizer;
  listener: Pick<FinetuneListener, 'onPacking' | 'onBadRow' | 'onData' | 'onWarning'>;
}

/** Returns the paths of the training files, and the settings for reading these files. */
export function trainingFiles({ data }: TrainSpec): { paths: readonly string[]; settings: DataSettings } {
  const { train, heldOut: _, ...settings } = data;
  return {
    paths: typeof train === 'string' ? [train] : train,
    settings: dataSettingsSchema.parse(settings),
  };
}

/**
 * Packs the training rows, and the held-out rows if there are any. The caller must close both. Gives a warning if the
 * training rows contain held-out samples.
 * @throws the errors of `packFiles`
 */
export async function packRunData(
  spec: TrainSpec,
  { cacheDir, now, signal }: RunDataOptions,
  { tokenizer, listener }: RunDataDeps,
): Promise<{ data: StoredRows; heldOut: StoredRows | null }> {
  const { paths, settings } = trainingFiles(spec);
  const { heldOut } = spec.data;
  type Sharing = Pick<PackFilesOptions, 'part' | 'earlier' | 'moreFollow'>;
  const pack = async (files: readonly string[], sharing: Sharing = {}) => {
    const onProgress = (done: number, total: number): void => listener.onPacking?.(done, total);
    const onBad = (row: BadRow): void => listener.onBadRow?.(row);
    const { base: modelDir, training } = spec;
    const { sequenceLength } = training;
    const where = { settings, sequenceLength, modelDir, cacheDir, now, signal };
    return packFiles({ ...where, paths: files, ...sharing, onProgress, onBad }, { tokenizer });
  };
  const tell = (part: PackedPart['part'], { tally }: StoredRows, read: RowSummary | null): void =>
    listener.onData?.({ part, read, tally });
  if (typeof heldOut !== 'number') {
    const data = await pack(paths);
    tell('train', data, data.read);
    if (heldOut === null) return { data, heldOut };
    const held = await pack(heldOut);
    tell('held-out', held, held.read);
    await warnOfOverlap(data, held, { signal, listener });
    return { data, heldOut: held };
  }
  let choice: Promise<(index: number) => boolean> | null = null;
  const isHeldOut = (): Promise<(index: number) => boolean> => {
    choice ??= countExamples(paths, settings, signal).then((count) => chooseHeldOut(count, heldOut));
    return choice;
  };
  // The name is a part of the digest of the rows, which a resumed run compares. It must therefore not change.
  const name = `${heldOut} by seed 0`;
  const training: ExamplePart = {
    name: `all but ${name}`,
    chosen: async () => {
      const held = await isHeldOut();
      return (index) => !held(index);
    },
  };
  const data = await pack(paths, { part: training, moreFollow: true });
  const held = await pack(paths, { part: { name, chosen: isHeldOut }, earlier: data.read });
  tell('train', data, held.read);
  tell('held-out', held, null);
  await warnOfOverlap(data, held, { signal, listener });
  return { data, heldOut: held };
}

/** Number of rows after which other work of the process, such as an interruption, gets a turn. */
const ROWS_PER_TURN = 1024;

async function warnOfOverlap(
  data: StoredRows,
  heldOut: StoredRows,
  { signal, listener }: Pick<RunDataOptions, 'signal'> & Pick<RunDataDeps, 'listener'>,
): Promise<void> {
  const overlap = new HeldOutOverlap(function* (): Generator<Row> {
    for (let i = 0; i < heldOut.rows; i++) yield heldOut.row(i);
  });
  for (let i = 0; i < data.rows; i++) {
    if (i % ROWS_PER_TURN === 0) {
      await new Promise(setImmediate);
      signal.throwIfAborted();
    }
    overlap.addTraining(data.row(i));
  }
  const share = overlap.share();
  const warning = overlapWarning(share);
  if (warning === null) return;
  const { message, next } = warning;
  listener.onWarning?.(dataError('HELD_OUT_OVERLAP', message, { share }, { next }));
}

async function countExamples(
  paths: readonly string[],
  { badRowShare, ...settings }: DataSettings,
  signal: AbortSignal,
): Promise<number> {
  const report = new RowReport({ badRowShare });
  let count = 0;
  for await (const _ of readExamples(paths, { ...readingOf({ badRowShare, ...settings }), signal, report }))
    count++;
  return count;
}
