import { dataError } from '../../lora/data/errors.ts';
import { PieceSet } from '../../lora/data/packing/piece-set.ts';
import { whyNoRows } from '../../lora/data/packing/tally.ts';
import { openRenderer } from '../../lora/data/render/renderer.ts';
import type { TextTokenizer } from '../../lora/data/tokenizer.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import { decodeHeldOut } from '../merge/held-out.ts';
import { DataReader, storeShards } from './data-parts.ts';
import type { JobData, JobDataDeps } from './pack-data.ts';

export interface RepackOptions {
  readonly spec: Pick<JobSpec, 'data' | 'training'>;
  /** The data of the job whose held-out rows are kept. */
  readonly original: Manifest['data'];
  /** The stored held-out rows of the original job. */
  readonly heldOut: Uint8Array;
  /** Folder of the base. */
  readonly dir: string;
  readonly tokenizer: TextTokenizer;
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number) => void;
}

/**
 * Packs new training files for a copy of a job. The copy keeps the chat template and the held-out rows of the job. A
 * training sample that is also one of the held-out samples is left out, because the files may be those from which the
 * held-out samples were split off.
 * @throws SwarmError DATA_*, TEMPLATE_*, STORE_FULL
 */
export async function repackTrainingData(
  { spec, original, heldOut, dir, tokenizer, signal, onProgress }: RepackOptions,
  { blobs, clock }: JobDataDeps,
): Promise<Omit<JobData, 'heldOut'>> {
  const { train, trainOn, templateVariables } = spec.data;
  const renderer = await openRenderer(
    {
      dir,
      source: original.chatTemplate ?? null,
      variables: templateVariables,
      trainOn: trainOn === 'auto' ? null : trainOn,
      now: clock.now(),
    },
    { tokenizer },
  );
  try {
    let total = 0;
    const options = { spec, signal, onExample: (done: number) => onProgress(done, total) };
    const reader = new DataReader(options, { renderer });
    total = await reader.count(train);
    const heldOutPieces = new PieceSet(decodeHeldOut(heldOut));
    const { rows, report, tally } = reader.part(train, () => true, { heldOut: heldOutPieces });
    const { sequenceLength } = original;
    const stored = await storeShards(rows, { sequenceLength, vocabSize: tokenizer.vocabSize }, { blobs });
    if (stored.rows === 0) {
      throw dataError('DATA_TOO_SMALL', `the training data has no usable row: ${whyNoRows(tally)}`, {
        which: 'training',
        trainingRows: 0,
        heldOutRows: original.heldOut.rows,
        heldOutSamples: tally.heldOut,
      });
    }
    return { data: { ...original, ...stored }, read: report.summary(), tally, heldOutPart: null };
  } finally {
    await renderer.close();
  }
}
