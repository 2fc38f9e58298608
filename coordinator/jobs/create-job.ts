import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { JobSpec } from '../../lora/finetune/job-spec.ts';
import { removeBases } from '../../lora/models/base-cleanup.ts';
import type { FileBlobs } from '../../storage/blobs.ts';
import type { CreateJobLine } from '../api/types.ts';
import type { Views } from '../api/views.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { Coordinator } from '../coordinator.ts';
import type { TrainerValidator } from '../merge/trainer-validator.ts';
import { existing } from '../record/new-job.ts';
import { prepareJob } from './prepare-job.ts';

export interface JobCreationDeps extends Pick<CoordinatorDeps, 'store' | 'clock' | 'log'> {
  readonly coordinator: Coordinator;
  readonly blobs: FileBlobs;
  readonly validator: TrainerValidator;
  readonly views: Views;
}

/** Makes jobs of what operators ask for, and leaves nothing of those that come to nothing. */
export class JobCreation {
  readonly #home: string;
  readonly #deps: JobCreationDeps;
  #running = 0;
  #tidying: Promise<void> = Promise.resolve();

  constructor(options: { home: string }, deps: JobCreationDeps) {
    this.#home = options.home;
    this.#deps = deps;
  }

  /** @throws SwarmError as `prepareJob` and `Coordinator.create` */
  async create(spec: JobSpec, onLine: (line: CreateJobLine) => void, signal: AbortSignal): Promise<void> {
    const { coordinator, store, blobs, validator, views, clock } = this.#deps;
    this.#running++;
    try {
      // What is being deleted may be the base of this very job, laid out by an attempt that has just failed.
      await this.#tidying;
      await coordinator.collector.withScope(async (scope) => {
        const prepared = await prepareJob(
          { spec, cacheDir: join(this.#home, 'cache'), signal, onProgress: onLine, onData: onLine },
          {
            blobs,
            scope,
            clock,
            randomBytes,
            isKnown: (job) => existing(job, store) !== null,
            evaluate: (job, adapter, options) => validator.measure(job, adapter, options),
          },
        );
        const run = await coordinator.create(prepared);
        const { job, invite } = views.job(run);
        onLine({ event: 'created', job, name: spec.name, invite });
      });
    } finally {
      this.#running--;
      await this.tidy();
    }
  }

  /** Deletes what lies there of bases that no job has, also after a kill. The blob collector deletes their blobs. */
  async tidy(): Promise<void> {
    const { coordinator, log } = this.#deps;
    // A job that is being made has its base laid out already.
    if (this.#running > 0) return;
    const keep = new Set(coordinator.jobs().map(({ context }) => context.manifest.base.digest));
    this.#tidying = removeBases({ home: this.#home, keep }).catch((error: unknown) =>
      log.warn({ error }, 'bases-not-tidied'),
    );
    await this.#tidying;
  }
}
