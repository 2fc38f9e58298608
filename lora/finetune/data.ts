import { chooseHeldOut } from '../data/held-out-choice.ts';
import { type ExamplePart, type PackFilesOptions, packFiles } from '../data/pack-files.ts';
import { readExamples } from '../data/read-examples.ts';
import { type BadRow, RowReport, type RowSummary } from '../data/row-report.ts';
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
  listener: Pick<FinetuneListener, 'onPacking' | 'onBadRow' | 'onData'>;
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
 * Packs the training rows, and the held-out rows if there are any. The caller must close both.
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
  return { data, heldOut: held };
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
