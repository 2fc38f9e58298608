import { basename } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { encodeAdapter, maxAdapterBytes } from '../../lora/adapter/codec.ts';
import { initialAdapter } from '../../lora/adapter/initial.ts';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import { adapterLayout, adapterSize } from '../../lora/adapter/layout.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import type { JobSpec } from '../../lora/finetune/job-spec.ts';
import { type BaseDescription, describeBase } from '../../lora/models/base-identity.ts';
import { type BaseModel, openBase } from '../../lora/models/base-model.ts';
import { hubOrigin } from '../../lora/models/hub/reference.ts';
import { updateLimits } from '../../lora/update/index.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import { ADAPTER_BYTES, UPDATE_BYTES } from '../../protocol/limits.ts';
import { type Manifest, manifestSchema } from '../../protocol/manifest.ts';
import type { BlobScope } from '../../storage/blob-collector.ts';
import type { FileBlobs } from '../../storage/blobs.ts';
import { storageError } from '../../storage/errors.ts';
import type { CreateJobLine } from '../api/types.ts';
import { coordinatorError } from '../errors.ts';
import { meanLoss, type RowLoss } from '../merge/gate.ts';
import type { Admission } from '../peers/admission.ts';
import type { PreparedJob } from '../record/new-job.ts';
import { packJobData } from './pack-data.ts';

export interface PrepareJobOptions {
  readonly spec: JobSpec;
  /** Where digests of the base's files are remembered. */
  readonly cacheDir: string;
  readonly signal: AbortSignal;
  readonly onProgress: (line: Extract<CreateJobLine, { event: 'progress' }>) => void;
  readonly onData: (line: Extract<CreateJobLine, { event: 'data' }>) => void;
}

export interface PrepareJobDeps {
  readonly blobs: FileBlobs;
  /** Holds what is taken in until the job is recorded; what an attempt that fails has taken in goes with it. */
  readonly scope: BlobScope;
  readonly clock: Clock;
  /** Losses of an adapter on the rows that the gate will look at. */
  evaluate(
    job: { job: string; manifest: Manifest; heldOut: Uint8Array },
    adapter: readonly Float32Array[],
    options: { signal: AbortSignal },
  ): Promise<readonly RowLoss[]>;
  /** Whether this very job is there already: then the base need not be measured again. @throws SwarmError JOB_EXISTS */
  isKnown(job: { name: string; content: string }): boolean;
  /** Random bytes for invites. */
  randomBytes(count: number): Uint8Array;
}

/** Bytes of an invite's token: too many to guess. */
const TOKEN_BYTES = 16;

/**
 * Takes base and data in as blobs, makes the first adapter, and measures the base on the held-out rows.
 * @throws SwarmError MODEL_*, TENSORS_*, LORA_*, DATA_*, SEQUENCE_TOO_LONG, JOB_EXISTS, STORE_FULL, TRAINER_*
 */
export async function prepareJob(options: PrepareJobOptions, deps: PrepareJobDeps): Promise<PreparedJob> {
  const { spec, cacheDir, signal } = options;
  let last = '';
  const progress = (stage: 'base' | 'data' | 'adapter' | 'baseline', done: number, total: number): void => {
    // A line per percent: data can have millions of documents.
    const point = `${stage} ${Math.floor((100 * done) / total)}`;
    if (point !== last) options.onProgress({ event: 'progress', stage, done, total });
    last = point;
  };

  const { model, layout } = await openJobBase(spec);
  const base = await importBase(spec.base, { cacheDir, signal }, deps, (done, total) =>
    progress('base', done, total),
  );
  const { data, heldOut, read, tally } = await packJobData(
    {
      spec,
      tokenizer: await loadTokenizer(spec.base),
      signal,
      onProgress: (done, total) => progress('data', done, total),
    },
    { blobs: deps.scope, clock: deps.clock },
  );
  options.onData({ event: 'data', read, tally });
  progress('adapter', 0, 1);
  const initial = await initialAdapter(model, spec.lora, spec.seed, { signal });
  const encoded = encodeAdapter(layout, initial, base.digest);
  const digest = await deps.scope.put(encoded);
  progress('adapter', 1, 1);

  const manifest = describeJob({
    spec,
    model,
    base,
    data,
    layout,
    initial: { digest, size: encoded.byteLength },
    createdAt: deps.clock.now(),
  });
  const admission = admissionOf(spec);
  const { createdAt: _, ...chosen } = manifest;
  const content = sha256(encodeCbor({ ...chosen, admission }));
  progress('baseline', 0, 1);
  const losses = deps.isKnown({ name: spec.name, content })
    ? []
    : await deps.evaluate({ job: sha256(encodeCbor(manifest)), manifest, heldOut }, initial, { signal });
  progress('baseline', 1, 1);
  return {
    manifest,
    layout,
    heldOut,
    admission,
    token:
      admission.kind === 'invite' ? Buffer.from(deps.randomBytes(TOKEN_BYTES)).toString('base64url') : null,
    content,
    baseLoss: meanLoss(losses),
    baseTokens: losses.reduce((sum, { tokens }) => sum + tokens, 0),
  };
}

/**
 * Opens a job's base, and fits its adapter to it.
 * @throws SwarmError MODEL_*, TENSORS_*, LORA_*, SEQUENCE_TOO_LONG
 */
export async function openJobBase({
  base,
  training: { sequenceLength },
  lora,
}: JobSpec): Promise<{ model: BaseModel; layout: AdapterLayout }> {
  const model = await openBase(base);
  const { maxPositions } = model.config;
  if (sequenceLength > maxPositions) {
    throw coordinatorError(
      'SEQUENCE_TOO_LONG',
      `training.sequenceLength is ${sequenceLength}, the base takes at most ${maxPositions} tokens`,
      { sequenceLength, maxPositions },
    );
  }
  const layout = adapterLayout(model, lora);
  checkExchange(layout);
  return { model, layout };
}

/**
 * Whether what nodes exchange in a round has room for an adapter of this layout; saved modules may not have.
 * @throws SwarmError LORA_TOO_LARGE
 */
export function checkExchange(layout: AdapterLayout): void {
  // The merged change goes out in this form, whatever form the nodes' own have.
  const { maximumBytes } = updateLimits(layout, 'dense');
  if (maximumBytes <= UPDATE_BYTES && maxAdapterBytes(layout) <= ADAPTER_BYTES) return;
  const parameters = adapterSize(layout);
  throw coordinatorError(
    'LORA_TOO_LARGE',
    `the adapter has ${parameters} values, a round's change of it takes up to ${maximumBytes} bytes, and ${UPDATE_BYTES} are exchanged; choose a lower rank, fewer targets or fewer modulesToSave`,
    { parameters, bytes: maximumBytes, limit: UPDATE_BYTES },
  );
}

/** A job's manifest, from what its operator chose and what that turned out to be. */
export function describeJob({
  spec,
  model,
  base,
  data,
  layout,
  initial,
  createdAt,
}: {
  spec: JobSpec;
  model: BaseModel;
  base: BaseDescription;
  data: Manifest['data'];
  layout: AdapterLayout;
  initial: Manifest['adapter']['initial'];
  createdAt: number;
}): Manifest {
  const { name, lora, training, rounds, acceptance, seed } = spec;
  const files = base.files.map(({ path, size, digest }) => ({ path, size, digest }));
  return manifestSchema.parse({
    version: 1,
    name,
    base: { ...nameOf(spec.base), digest: base.digest, parameters: model.parameters, files },
    data,
    lora,
    adapter: { parameters: adapterSize(layout), initial },
    training,
    rounds,
    acceptance,
    seed,
    createdAt,
  } satisfies Manifest);
}

/** A base from a hub goes by its name there and its commit, one from a folder by the folder's name. */
function nameOf(dir: string): Pick<Manifest['base'], 'name' | 'revision'> {
  return hubOrigin(dir) ?? { name: basename(dir) };
}

async function importBase(
  dir: string,
  { cacheDir, signal }: Pick<PrepareJobOptions, 'cacheDir' | 'signal'>,
  { blobs, scope }: Pick<PrepareJobDeps, 'blobs' | 'scope'>,
  onProgress: (done: number, total: number) => void,
): Promise<BaseDescription> {
  const base = await describeBase(dir, { signal, cacheDir });
  const total = base.files.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const { path, size, digest } of base.files) {
    await scope.hold(digest);
    const imported = await blobs.importFile(`${dir}/${path}`, { signal });
    if (imported.digest !== digest) {
      throw storageError('FILE_CHANGED', `${dir}/${path} changed while it was read; try again`, { path });
    }
    done += size;
    onProgress(done, total);
  }
  return base;
}

function admissionOf({ admission }: JobSpec): Admission {
  if (admission === 'open' || admission === 'invite') return { kind: admission };
  return { kind: 'peers', peers: [...new Set(admission)].sort() };
}
