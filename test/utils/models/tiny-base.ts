/** The files and values that a node or coordinator has for a job that trains a real, tiny base. */

import { join } from 'node:path';
import { systemClock } from '../../../common/time/system-clock.ts';
import { type AdapterLayout, adapterLayout } from '../../../lora/adapter/layout.ts';
import type { Row } from '../../../lora/data/row.ts';
import { loadTokenizer } from '../../../lora/data/tokenizer.ts';
import { describeBase } from '../../../lora/models/base/base-identity.ts';
import { type BaseModel, openBase } from '../../../lora/models/base/base-model.ts';
import { processorCompute } from '../../../lora/train/compute.ts';
import { probeMachine } from '../../../lora/train/devices/choose.ts';
import { loraSchema, type Manifest } from '../../../protocol/job/manifest.ts';
import { packedRows } from '../../../scripts/pretrain/pack-documents.ts';
import { FileBlobStore } from '../../../storage/blob-store.ts';
import { temporaryFolder } from '../folder.ts';
import { signerOf } from '../swarm/signers.ts';
import { toyJob } from '../virtual/toy-job.ts';
import { makeTinyModel, TINY_TEXT } from './tiny-model.ts';

const LORA = loraSchema.parse({ rank: 2, alpha: 4 });
const LENGTH = 32;

export interface TinyBase {
  readonly home: string;
  /** Blob store in `home`, with the files of the base. */
  readonly blobs: FileBlobStore;
  readonly model: BaseModel;
  /** Manifest of a job with batches of two rows. */
  readonly manifest: Manifest;
  /** Layout of the job's adapter. */
  readonly layout: AdapterLayout;
  readonly rows: readonly Row[];
}

/**
 * Makes a tiny base; its files are deleted when the test ends.
 * @param options seed of the base, and the home to use. @default seed 1 and a new home
 */
export async function tinyBase(options: { seed?: number; home?: string } = {}): Promise<TinyBase> {
  const folder = await temporaryFolder();
  const { seed = 1, home = join(folder, 'home') } = options;
  const modelDir = await makeTinyModel(join(folder, 'tiny'), { seed });
  const blobs = await FileBlobStore.open({ home }, { clock: systemClock });
  const base = await describeBase(modelDir);
  const { signal } = new AbortController();
  for (const { path } of base.files) await blobs.importFile(join(modelDir, path), { signal });
  const model = await openBase(modelDir);
  const { manifest: toy } = toyJob(signerOf(1));
  const manifest: Manifest = {
    ...toy,
    base: { name: 'tiny', parameters: model.parameters, digest: base.digest, files: [...base.files] },
    lora: LORA,
    training: { ...toy.training, sequenceLength: LENGTH, batchSize: 2, microBatch: 2 },
  };
  const tokenizer = await loadTokenizer(modelDir);
  const rows = await packedRows(Array(40).fill(TINY_TEXT), tokenizer, { sequenceLength: LENGTH });
  return { home, blobs, model, manifest, layout: adapterLayout(model, LORA), rows };
}

/** Records speeds so that `auto` chooses, for this base on one thread, a GPU that no longer exists. */
export async function measureGoneGpu({ home, model }: Pick<TinyBase, 'home' | 'model'>): Promise<void> {
  const { signal } = new AbortController();
  const speed = { flops: 1e15, bytes: 1e15, secondsPerOperation: 0 };
  const record = { recordDir: join(home, 'engines'), now: Date.now() };
  await probeMachine(
    { model, compute: processorCompute({ threads: 1 }), ...record, signal },
    {
      probe: async ({ engine }) => {
        const known = { engine, software: false, reason: null, needs: null };
        return { ...known, speed: engine === 'onnx-cuda' ? speed : null };
      },
    },
  );
}
