import { decodeAdapter, encodeAdapter } from '../../lora/adapter/codec.ts';
import { initialAdapter } from '../../lora/adapter/initial.ts';
import { adapterLayout, adapterSize } from '../../lora/adapter/layout.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import { openBase } from '../../lora/models/base/base-model.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import { type Manifest, manifestSchema } from '../../protocol/job/manifest.ts';
import { ADAPTER_BYTES } from '../../protocol/limits.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { BlobScope } from '../../storage/blob-collector.ts';
import type { FileBlobs } from '../../storage/blobs.ts';
import type { CoordinatorDeps } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import type { JobRun } from '../job-run.ts';
import { meanLoss } from '../merge/comparison.ts';
import type { TrainerValidator } from '../merge/trainer-validator.ts';
import { contentOf, findSameJob, type PreparedJob } from '../record/new-job.ts';
import type { JobTasks } from '../store/store.ts';
import { cloneName } from './clone-name.ts';
import { cloneSettings } from './clone-settings.ts';
import { newToken } from './invite.ts';
import { checkExchange } from './job-base.ts';
import type { JobData } from './pack-data.ts';
import { repackTrainingData } from './repack-data.ts';

/** Differences between a copy of a job and the original job. */
export interface CloneOptions {
  /** @default the name of the job followed by the lowest free number from 2, such as `poems-2` */
  readonly name?: string | null;
  /** New values of settings, by their keys in the job file. @default none */
  readonly changes?: Readonly<Record<string, unknown>>;
}

export interface CloneDeps extends Pick<CoordinatorDeps, 'store' | 'clock'> {
  /** Returns the folder of a base, and repairs its files first if they are damaged. */
  readonly baseFolder: (base: Manifest['base']) => Promise<string>;
  readonly blobs: FileBlobs;
  readonly validator: Pick<TrainerValidator, 'measure'>;
  /** Protects new blobs until the job is recorded. */
  readonly scope: BlobScope;
  readonly onProgress: (stage: 'data' | 'adapter' | 'baseline', done: number, total: number) => void;
  /**
   * Called after new training files have been packed. Not called if the copy keeps the training data of the
   * original job.
   */
  readonly onData: (data: Pick<JobData, 'read' | 'tally' | 'heldOutPart'>) => void;
  readonly signal: AbortSignal;
}

/**
 * Prepares a copy of a job with changed settings. The copy shares base and held-out rows with the job. It also shares
 * the training data, unless the changes name other training files. Settings that were changed while the job ran have
 * their newest values.
 * @throws SwarmError JOB_SPEC, SETTING_FIXED, SETTING_INVALID, JOB_EXISTS, LORA_*, DATA_*, CHECKPOINT_PRUNED; errors of
 *   the base and of the trainer
 */
export async function prepareClone(
  run: JobRun,
  { name = null, changes = {} }: CloneOptions,
  deps: CloneDeps,
): Promise<PreparedJob> {
  const { stored, manifest: original } = run.context;
  const { store, clock, validator, signal } = deps;
  const { spec, hasNewData } = cloneSettings(run, store.tasks.of(stored.job), changes);
  const { lora, training, rounds, acceptance, seed } = spec;
  const heldOut = store.jobs.heldOut(stored.job)!;
  const data = hasNewData ? await newData(run, spec, heldOut, deps) : original.data;
  deps.onProgress('adapter', 0, 1);
  const first = await firstAdapter(run, spec, deps);
  deps.onProgress('adapter', 1, 1);
  const manifest = manifestSchema.parse({
    ...original,
    coordinator: run.context.deps.network.signer.peerId,
    name: name ?? cloneName(stored.name, (other) => store.jobs.byName(other) !== null),
    data,
    lora,
    adapter: { parameters: adapterSize(first.layout), initial: first.initial },
    training,
    rounds,
    acceptance,
    seed,
    createdAt: clock.now(),
  } satisfies Manifest);
  const { admission } = stored;
  const tasks = changedTasks(store.tasks.of(stored.job), spec);
  const samples = store.samples.of(stored.job);
  const content = contentOf(manifest, admission, tasks, samples);
  const common = {
    manifest,
    layout: first.layout,
    heldOut,
    admission,
    token: newToken(admission),
    content,
    tasks,
    samples,
  };

  const isMeasured =
    first.initial.digest === original.adapter.initial.digest &&
    acceptance.heldOutRows === original.acceptance.heldOutRows;
  if (isMeasured || findSameJob({ name: manifest.name, content }, store)) {
    const { envelope } = store.rounds.checkpoint(stored.job, 0)!;
    const { heldOutTokens } = verifyMessage('checkpoint', envelope).message.metrics;
    return { ...common, baseLoss: stored.baseLoss, baseTokens: heldOutTokens };
  }
  deps.onProgress('baseline', 0, 1);
  const job = { job: sha256(encodeCbor(manifest)), manifest, heldOut };
  const losses = await validator.measure(job, decodeAdapter(first.bytes, first.layout), { signal });
  deps.onProgress('baseline', 1, 1);
  const baseTokens = losses.reduce((sum, { tokens }) => sum + tokens, 0);
  return { ...common, baseLoss: meanLoss(losses), baseTokens };
}

/** Packs the training files of a copy of a job. @throws SwarmError DATA_*, STORE_FULL */
async function newData(
  { context }: JobRun,
  spec: JobSpec,
  heldOut: Uint8Array,
  { baseFolder, scope, clock, onProgress, onData, signal }: CloneDeps,
): Promise<Manifest['data']> {
  const { base, data: original } = context.manifest;
  const dir = await baseFolder(base);
  const packed = await repackTrainingData(
    {
      spec,
      original,
      heldOut,
      dir,
      tokenizer: await loadTokenizer(dir),
      signal,
      onProgress: (done, total) => onProgress('data', done, total),
    },
    { blobs: scope, clock },
  );
  onData(packed);
  return packed.data;
}

/** Returns the tasks of a copy of a job. The copy has the same task files and metric as the job. */
function changedTasks(tasks: JobTasks | null, { tasks: changed }: JobSpec): JobTasks | null {
  if (tasks === null || changed === null) return null;
  return { ...tasks, every: changed.every, limit: changed.limit };
}

/**
 * Returns the adapter that the copy begins with: the initial adapter of the job, or a new adapter if the copy has other
 * LoRA settings or another seed.
 * @throws SwarmError SETTING_FIXED if the copy needs a new adapter, but the job began with the values of an existing
 * adapter; CHECKPOINT_PRUNED if these values have been deleted; LORA_*
 */
async function firstAdapter(
  { context }: JobRun,
  { lora, seed }: JobSpec,
  { baseFolder, blobs, scope, signal }: CloneDeps,
) {
  const { manifest, layout } = context;
  const { initial } = manifest.adapter;
  const isSame = seed === manifest.seed && sha256(encodeCbor(lora)) === sha256(encodeCbor(manifest.lora));
  if (isSame) {
    await scope.hold(initial.digest);
    if (await blobs.has(initial.digest)) {
      const bytes = await blobs.get(initial.digest, { maxBytes: ADAPTER_BYTES });
      return { layout, initial, bytes };
    }
  }
  const { base } = manifest;
  const model = await openBase(await baseFolder(base));
  const fresh = await initialAdapter(model, manifest.lora, manifest.seed, { signal });
  const before = encodeAdapter(layout, fresh, base.digest);
  if (sha256(before) !== initial.digest) {
    throw coordinatorError(
      isSame ? 'CHECKPOINT_PRUNED' : 'SETTING_FIXED',
      `job ${manifest.name} began with the values of another adapter, ${isSame ? 'and they have been deleted' : 'so a copy cannot change lora or seed'}`,
      { job: context.job },
      { next: 'create a job from a job file with the key "start": "lora-swarm job create FILE"' },
    );
  }
  if (isSame)
    return { layout, initial: { digest: await scope.put(before), size: before.byteLength }, bytes: before };
  const changed = adapterLayout(model, lora);
  checkExchange(changed);
  const bytes = encodeAdapter(changed, await initialAdapter(model, lora, seed, { signal }), base.digest);
  return { layout: changed, initial: { digest: await scope.put(bytes), size: bytes.byteLength }, bytes };
}
