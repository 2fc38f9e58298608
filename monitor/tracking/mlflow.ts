/**
 * Writes the figures of a job to a run of MLflow, through its REST API. @see
 * https://mlflow.org/docs/latest/rest-api.html
 */
import { monitorError } from '../errors.ts';
import type { Point, Tracker } from './points.ts';

export interface MlflowOptions {
  /** Address of the tracking server, for example http://127.0.0.1:5000. */
  readonly url: string;
  /** Bearer token. @default null, which means that the server needs none */
  readonly token?: string | null;
  /** Name of the MLflow experiment. @default 'lora-swarm' */
  readonly experiment?: string;
  readonly signal: AbortSignal;
}

/** Maximum number of metrics in one request. MLflow refuses more. */
const BATCH_METRICS = 1000;
/** Maximum time for one request, in milliseconds. */
const REQUEST_MS = 30_000;
/** Name of the tag with the digest of a run's job. */
const JOB_TAG = 'lora_swarm.job';
/** Name of the tag with the number of the newest event whose figures were sent to the run. */
const SEQUENCE_TAG = 'lora_swarm.sequence';

interface Run {
  info: { run_id: string };
  data: { tags?: { key: string; value: string }[] };
}

/**
 * Opens the MLflow run of a job. Creates the run if the server has none. If the run already has some of the job's
 * rounds, only the later rounds are sent.
 * @throws SwarmError TRACKER_REFUSED, TRACKER_UNREACHABLE
 */
export async function openMlflow(
  options: MlflowOptions,
  job: { digest: string; name: string; createdAt: number; parameters: Readonly<Record<string, string>> },
): Promise<Tracker> {
  const api = new Mlflow(options);
  const experiment = await api.experiment(options.experiment ?? 'lora-swarm');
  const run = (await api.runOf(experiment, job.digest)) ?? (await api.createRun(experiment, job));
  const id = run.info.run_id;
  const sequence = run.data.tags?.find(({ key }) => key === SEQUENCE_TAG)?.value ?? '0';
  return {
    after: Number(sequence),
    add: (points) => api.log(id, points),
    close: async (finished) => {
      if (!finished) return;
      await api.post('runs/update', { run_id: id, status: 'FINISHED', end_time: Date.now() });
    },
  };
}

class Mlflow {
  readonly #options: MlflowOptions;

  constructor(options: MlflowOptions) {
    this.#options = options;
  }

  /** Returns the id of an experiment. Creates the experiment if it does not exist. */
  async experiment(name: string): Promise<string> {
    const query = new URLSearchParams({ experiment_name: name });
    const found = await this.#call<{ experiment: { experiment_id: string } }>(
      'GET',
      `experiments/get-by-name?${query}`,
      undefined,
      { missing: 404 },
    );
    if (found !== null) return found.experiment.experiment_id;
    return (await this.post<{ experiment_id: string }>('experiments/create', { name })).experiment_id;
  }

  async runOf(experiment: string, digest: string): Promise<Run | null> {
    const { runs = [] } = await this.post<{ runs?: Run[] }>('runs/search', {
      experiment_ids: [experiment],
      filter: `tags."${JOB_TAG}" = '${digest}'`,
      max_results: 1,
    });
    return runs[0] ?? null;
  }

  async createRun(
    experiment: string,
    { digest, name, createdAt, parameters }: Parameters<typeof openMlflow>[1],
  ): Promise<Run> {
    const { run } = await this.post<{ run: Run }>('runs/create', {
      experiment_id: experiment,
      run_name: name,
      start_time: createdAt,
      tags: [{ key: JOB_TAG, value: digest }],
    });
    const params = Object.entries(parameters).map(([key, value]) => ({ key, value }));
    await this.post('runs/log-batch', { run_id: run.info.run_id, params });
    return run;
  }

  /**
   * Adds the figures of points. Each request also stores the number of the newest event whose figures the run then has, so
   * that no figures are sent twice. The points of lost rounds share one number, which is stored with the last of them. After an
   * interruption between them, they are all sent again, and MLflow ignores those that it has.
   */
  async log(id: string, points: readonly Point[]): Promise<void> {
    let metrics: object[] = [];
    let sequence = 0;
    const send = async (): Promise<void> => {
      const tags = sequence === 0 ? [] : [{ key: SEQUENCE_TAG, value: String(sequence) }];
      if (metrics.length > 0) await this.post('runs/log-batch', { run_id: id, metrics, tags });
      metrics = [];
    };
    for (const [i, point] of points.entries()) {
      const values = Object.entries(point.values);
      if (metrics.length + values.length > BATCH_METRICS) await send();
      for (const [key, value] of values) metrics.push({ key, value, timestamp: point.at, step: point.round });
      if (points[i + 1]?.sequence !== point.sequence) sequence = point.sequence;
    }
    await send();
  }

  async post<T>(path: string, body: object): Promise<T> {
    return (await this.#call<T>('POST', path, body))!;
  }

  /** @returns null if the answer has the status `missing` */
  async #call<T>(
    method: string,
    path: string,
    body?: object,
    { missing }: { missing?: number } = {},
  ): Promise<T | null> {
    const { url, token = null, signal } = this.#options;
    const address = `${url.replace(/\/+$/, '')}/api/2.0/mlflow/${path}`;
    let response: Response;
    try {
      response = await fetch(address, {
        method,
        headers: {
          'content-type': 'application/json',
          ...(token !== null && { authorization: `Bearer ${token}` }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_MS)]),
      });
    } catch (cause) {
      signal.throwIfAborted();
      const reason =
        (cause as Error).cause instanceof Error ? ((cause as Error).cause as Error) : (cause as Error);
      throw monitorError(
        'TRACKER_UNREACHABLE',
        `the tracking server ${url} does not answer: ${reason.message}`,
        { url },
        { cause },
      );
    }
    if (response.status === missing) return null;
    const text = await response.text();
    if (!response.ok) {
      const { status } = response;
      throw monitorError(
        'TRACKER_REFUSED',
        `the tracking server refused ${path.split('?')[0]} with status ${status}: ${text.slice(0, 300)}`,
        { url, status },
      );
    }
    return JSON.parse(text) as T;
  }
}
