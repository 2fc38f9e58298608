import type { Clock } from '../../common/clock.ts';
import type { Logger } from '../../common/logger.ts';
import type { JobEvent } from '../../monitor/job-events.ts';
import type { Signer } from '../../protocol/signing.ts';
import type { CheckpointFolders } from '../context.ts';
import type { Coordinator } from '../coordinator.ts';
import type { JobRun } from '../job-run.ts';
import { isOver } from '../round/round-machine.ts';

export interface JobPublisherOptions {
  /** Folder of the registry; null if nothing is published. */
  readonly registry: string | null;
}

export interface JobPublisherDeps {
  readonly coordinator: Pick<Coordinator, 'jobs'>;
  readonly folders: Pick<CheckpointFolders, 'path'>;
  readonly log: Logger;
  readonly clock: Clock;
  readonly signer: Signer;
}

/**
 * Adds the newest checkpoint of each finished job to the registry of adapters. A job that finished before a crash is
 * published at the next start. A failure is logged and does not disturb the jobs.
 */
export class JobPublisher {
  readonly #options: JobPublisherOptions;
  readonly #deps: JobPublisherDeps;
  /** Publications run one after the other. */
  #running: Promise<void> = Promise.resolve();

  constructor(options: JobPublisherOptions, deps: JobPublisherDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Publishes the jobs that have finished and have not been published. */
  start(): void {
    for (const run of this.#deps.coordinator.jobs()) if (isOver(run.driver.state)) this.#publish(run);
  }

  /** Publishes the job of an event if the job has finished. */
  observe(event: JobEvent): void {
    if (event.type !== 'finished') return;
    const run = this.#deps.coordinator.jobs().find(({ context }) => context.job === event.job);
    if (run !== undefined) this.#publish(run);
  }

  /** Waits until the running publication and those that wait behind it have ended. */
  stop(): Promise<void> {
    return this.#running;
  }

  #publish(run: JobRun): void {
    const { registry } = this.#options;
    if (registry === null) return;
    const { manifest } = run.context;
    this.#running = this.#running.then(() =>
      this.#add(run, registry).catch((error: unknown) =>
        this.#deps.log.warn({ job: manifest.name, registry, error }, 'job-not-published'),
      ),
    );
  }

  async #add(run: JobRun, home: string): Promise<void> {
    const { folders, log, clock, signer } = this.#deps;
    const { job, manifest } = run.context;
    const { digest, checkpoint } = run.record.checkpoint;
    const [{ openRegistry }, { isPublished, publishable, publishCheckpoint }] = await Promise.all([
      import('../../registry/open.ts'),
      import('../../registry/publish-checkpoint.ts'),
    ]);
    const registry = await openRegistry({ home }, { clock, signer: async () => signer });
    try {
      if (isPublished(registry, manifest.name, digest)) return;
      const { version } = await publishCheckpoint(registry, {
        folder: folders.path(manifest.name, checkpoint.round),
        job,
        manifest,
        checkpoint: publishable(digest, checkpoint),
        reason: 'the job finished',
      });
      log.info({ job: manifest.name, version: version.label, registry: home }, 'job-published');
    } finally {
      registry.close();
    }
  }
}
