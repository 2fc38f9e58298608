import type { Clock } from '../../common/clock.ts';
import { adapterSize } from '../../lora/adapter/layout.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import type { JobSpec } from '../../lora/finetune/job-spec.ts';
import { describeBase } from '../../lora/models/base-identity.ts';
import { type Preset, updateLimits } from '../../lora/update/index.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { assertManifestFits } from '../record/new-job.ts';
import { packJobData } from './pack-data.ts';
import { describeJob, openJobBase, type PrepareJobOptions } from './prepare-job.ts';

/** What a job would be, measured on its real base and data. Sizes in bytes. */
export interface JobCheck {
  readonly base: { readonly name: string; readonly parameters: number; readonly bytes: number };
  readonly data: {
    readonly rows: number;
    /** Predicted tokens. */
    readonly tokens: number;
    /** What each node fetches at most. */
    readonly bytes: number;
    readonly heldOut: { readonly rows: number; readonly tokens: number };
    /** Rows of the training files that cannot be used; few enough to go on without them. */
    readonly unusable: number;
  };
  readonly adapter: { readonly parameters: number; readonly bytes: number };
  /** Largest update at each preset that rounds may have: with "auto" it depends on how many nodes there are. */
  readonly update: readonly { readonly preset: Preset; readonly bytes: number }[];
  /** Of the signed description that every node gets. */
  readonly manifestBytes: number;
}

/**
 * Everything that creating the job would check but what needs its base to be run, and writes nothing but a cache of the
 * base's digests: base and tokenizer are read, every row of the data is tokenized and packed, targets are matched, the
 * held-out rows are split off.
 * @throws SwarmError as `prepareJob`, but for STORE_FULL and TRAINER_*
 */
export async function checkJob(
  spec: JobSpec,
  { cacheDir, signal, onProgress }: Pick<PrepareJobOptions, 'cacheDir' | 'signal' | 'onProgress'>,
  { clock }: { clock: Pick<Clock, 'now'> },
): Promise<JobCheck> {
  const { model, layout } = await openJobBase(spec);
  const base = await describeBase(spec.base, { signal, cacheDir });
  const baseBytes = base.files.reduce((sum, { size }) => sum + size, 0);
  onProgress({ event: 'progress', stage: 'base', done: baseBytes, total: baseBytes });
  const packed = await packJobData(
    {
      spec,
      tokenizer: await loadTokenizer(spec.base),
      signal,
      onProgress: (done, total) => onProgress({ event: 'progress', stage: 'data', done, total }),
    },
    { clock, blobs: { put: async (bytes) => sha256(bytes) } },
  );
  const parameters = adapterSize(layout);
  const adapterBytes = parameters * Float32Array.BYTES_PER_ELEMENT;
  const { data } = packed;
  // Digests all have the same length, so the manifest's size does not depend on which adapter it starts from.
  const initial = { digest: sha256(new Uint8Array()), size: adapterBytes };
  const manifest = describeJob({ spec, model, base, data, layout, initial, createdAt: clock.now() });
  const { preset } = spec.rounds;
  const presets: Preset[] = preset === 'auto' ? ['dense', 'balanced'] : [preset];
  return {
    base: { name: manifest.base.name, parameters: model.parameters, bytes: baseBytes },
    data: {
      rows: data.rows,
      tokens: data.tokens,
      bytes: data.shards.reduce((sum, { size }) => sum + size, 0),
      heldOut: { rows: data.heldOut.rows, tokens: data.heldOut.tokens },
      unusable: packed.read.bad,
    },
    adapter: { parameters, bytes: adapterBytes },
    update: presets.map((name) => ({ preset: name, bytes: updateLimits(layout, name).maximumBytes })),
    manifestBytes: assertManifestFits(manifest),
  };
}
