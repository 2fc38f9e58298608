import { decodeAdapter, encodeAdapter } from '../../lora/adapter/codec.ts';
import { initialAdapter } from '../../lora/adapter/initial.ts';
import { adapterLayout, adapterSize } from '../../lora/adapter/layout.ts';
import { type JobSpec, parseJobSpec } from '../../lora/finetune/settings/job-spec.ts';
import { setKeys } from '../../lora/finetune/settings/set-keys.ts';
import { layOutBase } from '../../lora/models/base/base-folder.ts';
import { openBase } from '../../lora/models/base/base-model.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import { ADAPTER_BYTES } from '../../protocol/limits.ts';
import { type Manifest, manifestSchema } from '../../protocol/manifest.ts';
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
import { newToken } from './invite.ts';
import { checkExchange } from './job-base.ts';

/** Differences between a copy of a job and the original job. */
export interface CloneOptions {
  /** @default the name of the job followed by the lowest free number from 2, such as `poems-2` */
  readonly name?: string | null;
  /** New values of settings, by their keys in the job file. @default none */
  readonly changes?: Readonly<Record<string, unknown>>;
}

export interface CloneDeps extends Pick<CoordinatorDeps, 'store' | 'clock'> {
  readonly home: string;
  readonly blobs: FileBlobs;
  readonly validator: Pick<TrainerValidator, 'measure'>;
  /** Protects new blobs until the job is recorded. */
  readonly scope: BlobScope;
  readonly onProgress: (stage: 'adapter' | 'baseline', done: number, total: number) => void;
  readonly signal: AbortSignal;
}

/** Keys of a job file that the changes of a copy cannot contain, each with the reason. */
const SHARED: Readonly<Record<string, string>> = {
  name: 'the option --name (`name`) sets the name of a copy',
  base: 'a copy uses the files of the base that the coordinator has',
  start: 'a copy begins with the first adapter of the job',
  data: 'a copy uses the packed data that the coordinator has',
  'tasks.files': 'a copy is evaluated on the same tasks',
  'tasks.metric': 'a copy is compared by the same metric',
  preset: 'the preset has already chosen the settings of the job',
  admission: 'a copy admits the same nodes',
};
const SEQUENCE_LENGTH = 'training.sequenceLength';

/**
 * Prepares a copy of a job with changed settings. The copy shares base, data and held-out rows with the job, so nothing
 * is read from the operator's disk. Settings that were changed while the job ran have their newest values.
 * @throws SwarmError JOB_SPEC, SETTING_FIXED, JOB_EXISTS, LORA_*, CHECKPOINT_PRUNED; errors of the base and of the
 *   trainer
 */
export async function prepareClone(
  run: JobRun,
  { name = null, changes = {} }: CloneOptions,
  deps: CloneDeps,
): Promise<PreparedJob> {
  const { stored, manifest: original } = run.context;
  const { store, clock, validator, signal } = deps;
  const spec = changedSpec(run, store.tasks.of(stored.job), changes);
  const { lora, training, rounds, acceptance, seed } = spec;
  deps.onProgress('adapter', 0, 1);
  const first = await firstAdapter(run, spec, deps);
  deps.onProgress('adapter', 1, 1);
  const manifest = manifestSchema.parse({
    ...original,
    name: name ?? cloneName(stored.name, (other) => store.jobs.byName(other) !== null),
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
  const content = contentOf(manifest, admission, tasks);
  const heldOut = store.jobs.heldOut(stored.job)!;
  const common = {
    manifest,
    layout: first.layout,
    heldOut,
    admission,
    token: newToken(admission),
    content,
    tasks,
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

/** Returns the tasks of a copy of a job. The copy has the same task files and metric as the job. */
function changedTasks(tasks: JobTasks | null, { tasks: changed }: JobSpec): JobTasks | null {
  if (tasks === null || changed === null) return null;
  return { ...tasks, every: changed.every, limit: changed.limit };
}

/** Returns the newest settings of a job, with the changes applied. @throws SwarmError SETTING_FIXED, JOB_SPEC */
function changedSpec(
  { context }: JobRun,
  tasks: JobTasks | null,
  changes: Readonly<Record<string, unknown>>,
): JobSpec {
  const { manifest, settings } = context;
  const { learningRate, ...rounds } = settings.newest;
  for (const key of Object.keys(changes)) {
    const [group, , ...deeper] = key.split('.') as [string];
    const why =
      (key === 'tasks' ? SHARED['tasks.files'] : SHARED[key]) ??
      SHARED[group] ??
      (key === SEQUENCE_LENGTH ? SHARED.data : undefined);
    if (why !== undefined) {
      throw coordinatorError(
        'SETTING_FIXED',
        `a copy of a job cannot change ${key}: ${why}`,
        { key },
        {
          next:
            group === 'name'
              ? 'use --name NAME'
              : 'create a job from a job file: "lora-swarm job create FILE"',
        },
      );
    }
    if (deeper.length > 0) {
      throw coordinatorError('SETTING_INVALID', `${key} names a part of a setting; give the whole setting`, {
        key,
      });
    }
  }
  return parseJobSpec(
    setKeys(
      {
        name: manifest.name,
        base: manifest.base.name,
        data: { train: manifest.name },
        lora: manifest.lora,
        training: { ...manifest.training, learningRate },
        rounds: { ...manifest.rounds, ...rounds },
        acceptance: manifest.acceptance,
        seed: manifest.seed,
        ...(tasks && { tasks: { files: [...tasks.files], every: tasks.every, limit: tasks.limit } }),
      },
      changes,
    ),
  );
}

/**
 * Returns the adapter that the copy begins with: the initial adapter of the job, or a new adapter if the copy has other
 * LoRA settings or another seed.
 * @throws SwarmError SETTING_FIXED if the copy needs a new adapter, but the job began with the values of another
 * adapter; CHECKPOINT_PRUNED if these values have been deleted; LORA_*
 */
async function firstAdapter(
  { context }: JobRun,
  { lora, seed }: JobSpec,
  { home, blobs, scope, signal }: CloneDeps,
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
  const model = await openBase(await layOutBase({ home, base, pathOf: (digest) => blobs.path(digest) }));
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
