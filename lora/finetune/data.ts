import { chooseHeldOut } from '../data/held-out-choice.ts';
import { type ExamplePart, packFiles } from '../data/pack-files.ts';
import { readExamples } from '../data/read-examples.ts';
import { type BadRow, RowReport } from '../data/row-report.ts';
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
  const pack = async (which: PackedPart['part'], files: readonly string[], part?: ExamplePart) => {
    const onProgress = (done: number, total: number): void => listener.onPacking?.(done, total);
    const onBad = (row: BadRow): void => listener.onBadRow?.(row);
    const { base: modelDir, training } = spec;
    const { sequenceLength } = training;
    const where = { settings, sequenceLength, modelDir, cacheDir, now, signal };
    const packed = await packFiles({ ...where, paths: files, part, onProgress, onBad }, { tokenizer });
    listener.onData?.({ part: which, read: packed.read, tally: packed.tally });
    return packed;
  };
  if (typeof heldOut !== 'number') {
    const data = await pack('train', paths);
    return { data, heldOut: heldOut && (await pack('held-out', heldOut)) };
  }
  let choice: Promise<(index: number) => boolean> | null = null;
  const isHeldOut = (): Promise<(index: number) => boolean> => {
    choice ??= countExamples(paths, settings, signal).then((count) =>
      chooseHeldOut(count, heldOut, spec.seed),
    );
    return choice;
  };
  const name = `${heldOut} by seed ${spec.seed}`;
  const data = await pack('train', paths, {
    name: `all but ${name}`,
    chosen: async () => {
      const held = await isHeldOut();
      return (index) => !held(index);
    },
  });
  return { data, heldOut: await pack('held-out', paths, { name, chosen: isHeldOut }) };
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
