import { withAbortReason } from '../../common/abort-reason.ts';
import { SwarmError } from '../../common/errors.ts';
import { presetJob } from '../../lora/finetune/preset.ts';
import { absoluteChanges, absolutePaths } from '../../lora/finetune/settings/absolute-paths.ts';
import { type JobSpecInput, parseJobSpec } from '../../lora/finetune/settings/job-spec.ts';
import { findBase } from '../../lora/models/base/find-base.ts';
import type { FetchProgress } from '../../lora/models/hub/fetch-model.ts';
import type { CreateJobLine, RowSummary, RowTally } from '../../protocol/api/job-creation.ts';
import { coordinatorError } from '../errors.ts';
import { startedJob } from '../jobs/job-start.ts';
import { ApiClient, type CoordinatorAddress } from './api-client.ts';

/** Progress of one stage of a job's creation. */
export interface JobProgress {
  /** The stages in order: read the base, pack the data, make the initial adapter, measure its held-out loss. */
  stage: 'base' | 'data' | 'adapter' | 'baseline';
  /** Part of `total` that is done. The unit depends on the stage. */
  done: number;
  total: number;
}

/** Figures of the packed training data. */
export interface JobDataReport {
  /** Number of records in the training files, and how many are unusable. */
  read: RowSummary;
  /** Number of samples made from the usable records, and how these samples were packed. */
  tally: RowTally;
  /**
   * The same two fields for the held-out part of the data; null for a copy of a job, which keeps its held-out rows.
   * `read` is null if the held-out samples are a fraction of the training files.
   */
  heldOutPart: {
    read: RowSummary | null;
    tally: RowTally;
    /**
     * Share of the held-out data that the training data contains too, from 0 to 1. Coordinators of earlier releases do not
     * measure it.
     */
    overlap?: number;
  } | null;
}

/** Callbacks and signal for the creation of a job. */
export interface CreateJobOptions {
  /** When this signal aborts, the coordinator drops the unfinished job. @default never aborts */
  readonly signal?: AbortSignal;
  /** Called while this process downloads a base on the hub, or converts a GGUF file, before it sends the job. */
  readonly onDownload?: (progress: FetchProgress) => void;
  /** Called while the coordinator reads base and data. */
  readonly onProgress?: (progress: JobProgress) => void;
  /** Called when the training data is packed. */
  readonly onData?: (data: JobDataReport) => void;
  /** Jobs with a higher priority come first, from -1000 to 1000. @default 0 */
  readonly priority?: number;
  /** Name or digest of the job that must end before the new job opens. @default the new job opens at once */
  readonly after?: string | null;
}

/** A created job, or the same job that existed already. */
export interface CreatedJob {
  /** Digest of the manifest of the job. */
  job: string;
  name: string;
  /** Invite for `lora-swarm node`. */
  invite: string;
  /** False if the coordinator has the same job already. Nothing was created then. */
  isNew: boolean;
}

/**
 * Creates a job. The coordinator must run on this machine, because it reads the base and the data from disk. Creating
 * the same job again changes nothing, and the result says so (`isNew`). Relative paths start from the current folder. A base that the spec names on the
 * hub is downloaded first.
 *
 * @param where the coordinator: the result of `startCoordinator`, a home, a URL and token, or a client
 * @param spec the keys of a job file
 * @throws SwarmError JOB_SPEC, DAEMON_NOT_RUNNING, JOB_NOT_CREATED; HUB_*, MODEL_*, DATA_*, LORA_*, JOB_EXISTS and
 *   other errors of the coordinator; the signal's reason
 */
export function createJob(
  where: CoordinatorAddress | ApiClient,
  spec: JobSpecInput,
  options: CreateJobOptions = {},
): Promise<CreatedJob> {
  return withAbortReason(options.signal, () => create(where, spec, options));
}

async function create(
  where: CoordinatorAddress | ApiClient,
  spec: JobSpecInput,
  { signal = new AbortController().signal, onDownload, onProgress, onData, ...place }: CreateJobOptions,
): Promise<CreatedJob> {
  const absolute = absolutePaths(parseJobSpec(spec), process.cwd());
  const filled = {
    ...absolute,
    base: await findBase({ base: absolute.base, signal, onProgress: onDownload }),
  };
  const { written, spec: started } = await startedJob(spec, filled, { signal });
  const job =
    started.preset === null ? started : (await presetJob(written, started, { now: Date.now(), signal })).spec;
  const api = where instanceof ApiClient ? where : await ApiClient.connect(where, { signal });
  return readCreation(api.createJob(job, place, signal), { onProgress, onData });
}

/** Options of a copy of a job. */
export interface CloneJobOptions extends Omit<CreateJobOptions, 'onDownload'> {
  /** @default the name of the job followed by a number, such as `poems-2` */
  readonly name?: string | null;
  /**
   * New values of settings, by their keys in the job file, such as `lora.rank` or `data.train`. Relative paths start from
   * the current folder. @default none
   */
  readonly changes?: Readonly<Record<string, unknown>>;
}

/**
 * Creates a copy of a job with the same base and held-out rows, which the coordinator has already. The copy also has the
 * same training data, unless `changes` names other files. Settings that were changed while the job ran have their newest
 * values. If the options have no priority, the copy has the priority of the job.
 *
 * @param where the coordinator: the result of `startCoordinator`, a home, a URL and token, or a client
 * @param job name, digest or a unique prefix of the digest
 * @throws SwarmError JOB_UNKNOWN, SETTING_FIXED, JOB_SPEC, JOB_EXISTS, DAEMON_NOT_RUNNING, JOB_NOT_CREATED, LORA_*, DATA_*;
 *   the signal's reason
 */
export function cloneJob(
  where: CoordinatorAddress | ApiClient,
  job: string,
  options: CloneJobOptions = {},
): Promise<CreatedJob> {
  const { signal = new AbortController().signal, onProgress, onData, changes = {} } = options;
  const { name, priority, after } = options;
  return withAbortReason(options.signal, async () => {
    const api = where instanceof ApiClient ? where : await ApiClient.connect(where, { signal });
    const clone = { name, priority, after, changes: absoluteChanges(changes, process.cwd()) };
    return readCreation(api.cloneJob(job, clone, signal), { onProgress, onData });
  });
}

async function readCreation(
  lines: AsyncIterable<CreateJobLine>,
  { onProgress, onData }: Pick<CreateJobOptions, 'onProgress' | 'onData'>,
): Promise<CreatedJob> {
  for await (const line of lines) {
    if (line.event === 'created') {
      // An older coordinator sends no isNew.
      return { job: line.job, name: line.name, invite: line.invite, isNew: line.isNew ?? true };
    }
    if (line.event === 'error') throw SwarmError.fromJSON(line);
    if (line.event === 'data')
      onData?.({ read: line.read, tally: line.tally, heldOutPart: line.heldOutPart });
    else onProgress?.({ stage: line.stage, done: line.done, total: line.total });
  }
  throw coordinatorError('JOB_NOT_CREATED', 'the coordinator stopped before it created the job');
}
