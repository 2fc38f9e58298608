import { join } from 'node:path';
import { encodeAdapter } from '../../lora/adapter/codec.ts';
import { initialAdapter } from '../../lora/adapter/initial.ts';
import { readStart } from '../../lora/adapter/start.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import { removeBases } from '../../lora/models/base/base-cleanup.ts';
import type { CreateJobLine, NewPlace } from '../../protocol/api/job-creation.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import type { BlobScope } from '../../storage/blob-collector.ts';
import type { FileBlobs } from '../../storage/blobs.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { Coordinator } from '../coordinator.ts';
import { meanLoss } from '../merge/comparison.ts';
import type { TrainerValidator } from '../merge/trainer-validator.ts';
import { contentOf, findSameJob, type PreparedJob } from '../record/new-job.ts';
import type { Admission } from '../store/store.ts';
import { type CloneDeps, type CloneOptions, prepareClone } from './clone-job.ts';
import { inviteTo, newToken } from './invite.ts';
import { importBase, openJobBase } from './job-base.ts';
import { describeJob } from './job-manifest.ts';
import { readJobTasks } from './job-tasks.ts';
import { type JobData, packJobData } from './pack-data.ts';
import { jobSamples, readPrompts } from './prompts.ts';

export interface JobCreationDeps extends Pick<CoordinatorDeps, 'network' | 'store' | 'clock' | 'log'> {
  readonly coordinator: Coordinator;
  readonly blobs: FileBlobs;
  readonly validator: TrainerValidator;
  readonly baseFolder: CloneDeps['baseFolder'];
}

/** Creates jobs from job files. A failed attempt leaves nothing behind. */
export class JobCreation {
  readonly #home: string;
  readonly #deps: JobCreationDeps;
  #running = 0;
  #cleaning: Promise<void> = Promise.resolve();

  constructor(options: { home: string }, deps: JobCreationDeps) {
    this.#home = options.home;
    this.#deps = deps;
  }

  /**
   * Prepares, records and starts a job. Creating the same job again changes nothing.
   * @throws SwarmError the errors of `#prepare`, of `Coordinator.create`, and of `Coordinator.find` for `after`
   */
  create(
    spec: JobSpec,
    place: NewPlace,
    onLine: (line: CreateJobLine) => void,
    signal: AbortSignal,
  ): Promise<void> {
    return this.#record((scope) => this.#prepare(spec, scope, onLine, signal), place, onLine);
  }

  /**
   * Records and starts a copy of a job. The copy shares the files of the job, unless its options name other training
   * files.
   * @param job name, digest or prefix of the digest
   * @throws SwarmError the errors of `prepareClone`, of `Coordinator.create`, and of `Coordinator.find`
   */
  async clone(
    job: string,
    { priority, after, ...options }: CloneOptions & NewPlace,
    onLine: (line: CreateJobLine) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const run = this.#deps.coordinator.find(job);
    const deps = {
      ...this.#deps,
      onProgress: progressLines(onLine),
      onData: ({ read, tally, heldOutPart }: Pick<JobData, 'read' | 'tally' | 'heldOutPart'>) =>
        onLine({ event: 'data', read, tally, heldOutPart }),
      signal,
    };
    await this.#record(
      (scope) => prepareClone(run, options, { ...deps, scope }),
      { priority: priority ?? run.context.place.priority, after },
      onLine,
    );
  }

  async #record(
    prepare: (scope: BlobScope) => Promise<PreparedJob>,
    { priority = 0, after: awaited = null }: NewPlace,
    onLine: (line: CreateJobLine) => void,
  ): Promise<void> {
    const { coordinator, network } = this.#deps;
    const other = awaited === null ? null : coordinator.find(awaited).context.stored;
    const after = other && { job: other.job, name: other.name };
    this.#running++;
    try {
      // If an attempt with the same base has just failed, `clean` may still be deleting the folder of that base.
      await this.#cleaning;
      await coordinator.collector.withScope(async (scope) => {
        const { run, isNew } = await coordinator.create({ ...(await prepare(scope)), priority, after });
        const { job, stored } = run.context;
        onLine({ event: 'created', job, name: stored.name, invite: inviteTo(stored, network), isNew });
      });
    } finally {
      this.#running--;
      await this.clean();
    }
  }

  /**
   * Deletes the folders of bases that no job uses, including folders that a killed process left behind. The blobs of
   * these bases are deleted later, by garbage collection.
   */
  async clean(): Promise<void> {
    const { coordinator, log } = this.#deps;
    // A job that is being created uses a base, but the job is not in the list of jobs yet. So delete nothing
    // now.
    if (this.#running > 0) return;
    const keep = new Set(coordinator.jobs().map(({ context }) => context.manifest.base.digest));
    this.#cleaning = removeBases({
      home: this.#home,
      keep,
      onUndeleted: (undeleted) => log.warn(undeleted, 'base-not-removed'),
    }).catch((error: unknown) => log.warn({ error }, 'bases-not-removed'));
    await this.#cleaning;
  }

  /**
   * Imports base and data as blobs, makes the first adapter, and measures the base on the held-out rows.
   * @param scope protects the blobs until the job is recorded
   * @throws SwarmError MODEL_*, TENSORS_*, LORA_*, DATA_*, TASK_*, SEQUENCE_TOO_LONG, JOB_EXISTS, STORE_FULL, TRAINER_*
   */
  async #prepare(
    spec: JobSpec,
    scope: BlobScope,
    onLine: (line: CreateJobLine) => void,
    signal: AbortSignal,
  ): Promise<PreparedJob> {
    const { network, blobs, store, validator, clock } = this.#deps;
    const progress = progressLines(onLine);
    const tasks = await readJobTasks(spec, { signal });
    const { model, layout } = await openJobBase(spec);
    const tokenizer = await loadTokenizer(spec.base);
    const prompts = await readPrompts(spec, tokenizer, { clock });
    const cacheDir = join(this.#home, 'cache');
    const base = await importBase(spec.base, { cacheDir, signal }, { blobs, scope }, (done, total) =>
      progress('base', done, total),
    );
    const { data, heldOut, read, tally, heldOutPart } = await packJobData(
      {
        spec,
        tokenizer,
        signal,
        onProgress: (done, total) => progress('data', done, total),
      },
      { blobs: scope, clock },
    );
    onLine({ event: 'data', read, tally, heldOutPart });
    progress('adapter', 0, 1);
    const adapter =
      spec.start === null
        ? await initialAdapter(model, spec.lora, spec.seed, { signal })
        : (await readStart({ folder: spec.start }, model, spec.lora, { signal, cacheDir })).tensors;
    const encoded = encodeAdapter(layout, adapter, base.digest);
    const initial = { digest: await scope.put(encoded), size: encoded.byteLength };
    progress('adapter', 1, 1);

    const manifest = describeJob({
      coordinator: network.signer.peerId,
      ...{ spec, model, base, data, layout, initial },
      createdAt: clock.now(),
    });
    const admission = admissionOf(spec);
    const samples = jobSamples(spec, prompts, heldOut, tokenizer);
    const content = contentOf(manifest, admission, tasks, samples);
    progress('baseline', 0, 1);
    // If the job exists already, the base was measured when the job was created.
    const losses = findSameJob({ name: spec.name, content }, store)
      ? []
      : await validator.measure({ job: sha256(encodeCbor(manifest)), manifest, heldOut }, adapter, {
          signal,
        });
    progress('baseline', 1, 1);
    return {
      manifest,
      layout,
      heldOut,
      admission,
      token: newToken(admission),
      content,
      tasks,
      samples,
      baseLoss: meanLoss(losses),
      baseTokens: losses.reduce((sum, { tokens }) => sum + tokens, 0),
    };
  }
}

type Stage = Extract<CreateJobLine, { event: 'progress' }>['stage'];

/** Returns a function that reports progress, with at most one line per percent, because data can have millions of examples. */
function progressLines(
  onLine: (line: CreateJobLine) => void,
): (stage: Stage, done: number, total: number) => void {
  let last = '';
  return (stage, done, total) => {
    const point = `${stage} ${Math.floor((100 * done) / total)}`;
    if (point !== last) onLine({ event: 'progress', stage, done, total });
    last = point;
  };
}

function admissionOf({ admission }: JobSpec): Admission {
  if (admission === 'open' || admission === 'invite') return { kind: admission };
  return { kind: 'peers', peers: [...new Set(admission)].sort() };
}
