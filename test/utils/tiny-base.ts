/** What a node or a coordinator has of a job that trains a real base, a tiny one. */

import { join } from 'node:path';
import { systemClock } from '../../common/system-clock.ts';
import { type AdapterLayout, adapterLayout } from '../../lora/adapter/layout.ts';
import { packedRows } from '../../lora/data/packing/pack-documents.ts';
import type { Row } from '../../lora/data/row.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import { describeBase } from '../../lora/models/base-identity.ts';
import { type BaseModel, openBase } from '../../lora/models/base-model.ts';
import { probeMachine } from '../../lora/train/choose.ts';
import { loraSchema, type Manifest } from '../../protocol/manifest.ts';
import { FileBlobStore } from '../../storage/blob-store.ts';
import { temporaryFolder } from './folder.ts';
import { signerOf } from './signers.ts';
import { makeTinyModel, TINY_TEXT } from './tiny-model.ts';
import { toyJob } from './virtual/toy-job.ts';

const LORA = loraSchema.parse({ rank: 2, alpha: 4 });
const LENGTH = 32;

export interface TinyBase {
  readonly home: string;
  /** In `home`, with the files of the base. */
  readonly blobs: FileBlobStore;
  readonly model: BaseModel;
  /** Of a job with batches of two rows. */
  readonly manifest: Manifest;
  /** Of the job's adapter. */
  readonly layout: AdapterLayout;
  readonly rows: readonly Row[];
}

/** All of it goes when the test ends. */
export async function tinyBase(): Promise<TinyBase> {
  const folder = await temporaryFolder();
  const home = join(folder, 'home');
  const modelDir = await makeTinyModel(join(folder, 'tiny'));
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

/** Has `auto` take a GPU for this base, on one thread: one that was there when it was measured. */
export async function measureGoneGpu({ home, model }: Pick<TinyBase, 'home' | 'model'>): Promise<void> {
  const { signal } = new AbortController();
  const speed = { flops: 1e15, bytes: 1e15, secondsPerOperation: 0 };
  const computing = { baseBits: 32, precision: 'float32' } as const;
  const record = { recordDir: join(home, 'engines'), now: Date.now() };
  await probeMachine(
    { model, threads: 1, ...computing, ...record, signal },
    {
      probe: async ({ engine }) => {
        const known = { engine, software: false, reason: null, needs: null };
        return { ...known, speed: engine === 'onnx-cuda' ? speed : null };
      },
    },
  );
}
