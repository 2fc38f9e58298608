import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import type { Signer } from '../../protocol/signing.ts';
import type { Registry } from '../../registry/registry.ts';
import type { AdapterVersion } from '../../registry/version.ts';
import { bestCheckpoint } from '../best-checkpoint.ts';
import type { CheckpointFolders } from '../context.ts';
import type { Coordinator } from '../coordinator.ts';
import type { JobRun } from '../job-run.ts';
import { isOver } from '../round/job-phase.ts';
import type { Store, TaskResult } from '../store/store.ts';
import { publishStored } from './publish-stored.ts';

export interface JobPublisherOptions {
  /** Folder of the registry; null if nothing is published. */
  readonly registry: string | null;
}

export interface JobPublisherDeps {
  readonly coordinator: Pick<Coordinator, 'jobs'>;
  readonly store: Store;
  readonly folders: Pick<CheckpointFolders, 'path'>;
  readonly log: Logger;
  readonly clock: Clock;
  readonly signer: Signer;
  /** Returns the folder of a base on this machine. */
  readonly baseFolder: (base: Manifest['base']) => Promise<string>;
}

/** Tag of the best checkpoint of a job. */
const BEST = 'best';
/** Tag of the version that the winner of a sweep gets under the name of the sweep. */
const WINNER = 'winner';
/** Events after which a job may have something to publish. */
const OCCASIONS: readonly JobEvent['type'][] = ['finished', 'tasks-evaluated', 'sweep-won'];
/** Source that the registry shows for measurements from the tasks of a job. */
const SOURCE = 'tasks of the job';

/**
 * Adds checkpoints of jobs to the registry of adapters:
 * - the newest checkpoint of each finished job, unless the job was stopped before its first checkpoint
 * - the best checkpoint, with the tag `best`. If the job has a chosen metric, this is the checkpoint with the
 *   best value, and it is added as soon as it has been evaluated. Otherwise, it is the checkpoint with the
 *   lowest held-out loss, and it is added when the job has finished.
 * - the best checkpoint of a job that won a sweep, again under the name of the sweep and with the tag
 *   `winner`
 * After a crash, the next start adds the checkpoints that are missing. A failure is logged and does not
 * disturb the jobs.
 */
export class JobPublisher {
  readonly #options: JobPublisherOptions;
  readonly #deps: JobPublisherDeps;
  /** Settles when all publications so far have ended. They run one at a time. */
  #running: Promise<void> = Promise.resolve();

  constructor(options: JobPublisherOptions, deps: JobPublisherDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Adds the checkpoints that an earlier process has not added. */
  start(): void {
    for (const run of this.#deps.coordinator.jobs()) this.#publish(run);
  }

  /**
   * Adds checkpoints of the event's job to the registry if the job has finished, has a new best checkpoint or has won a
   * sweep.
   */
  observe(event: JobEvent): void {
    if (!OCCASIONS.includes(event.type)) return;
    const run = this.#deps.coordinator.jobs().find(({ context }) => context.job === event.job);
    if (run !== undefined) this.#publish(run);
  }

  /** Waits until the publication that is running has ended. */
  stop(): Promise<void> {
    return this.#running;
  }

  #publish(run: JobRun): void {
    const { registry } = this.#options;
    if (registry === null) return;
    const { manifest } = run.context;
    this.#running = this.#running.then(() =>
      this.#addAll(run, registry).catch((error: unknown) =>
        this.#deps.log.warn({ job: manifest.name, registry, error }, 'job-not-published'),
      ),
    );
  }

  async #addAll(run: JobRun, home: string): Promise<void> {
    const { store, clock, signer, baseFolder } = this.#deps;
    if (run.record.checkpoint.ordinal === 0) return;
    const best = this.#bestRound(run);
    const newest = isOver(run.driver.state) ? run.record.checkpoint.checkpoint.round : null;
    if (best === null && newest === null) return;
    const { openRegistry } = await import('../../registry/open.ts');
    const registry = await openRegistry({ home }, { clock, signer: async () => signer });
    try {
      // The version that is added last gets the tag `latest`, so the newest checkpoint comes last.
      if (best !== null) await this.#addBest(run, best, registry);
      if (newest !== null && newest !== best) await this.#add(run, newest, registry, 'the job finished');
      for (const sweep of newest === null ? [] : store.sweeps.wonBy(run.context.job)) {
        const reason = `the job ${run.context.stored.name} won the sweep`;
        await this.#add(run, best ?? newest!, registry, reason, [WINNER], sweep);
      }
      // Figures that were measured on a part of the documents are not added, because figures of different
      // versions in the registry must be comparable.
      const { job } = run.context;
      const results = store.tasks.of(job)?.limit === null ? store.tasks.results(job) : [];
      for (const result of results) this.#measure(run, result, registry);
      // Store the folder of the base in the registry, because the export of a merged model looks it up there.
      const { base } = run.context.manifest;
      registry.rememberBase(base.digest, await baseFolder(base));
    } finally {
      registry.close();
    }
  }

  /** Returns the round of the best checkpoint; null if it is not known yet, or if no round was better than the start. */
  #bestRound({ context, driver }: JobRun): number | null {
    const { store } = this.#deps;
    const isByTasks = (store.tasks.of(context.job)?.metric ?? null) !== null;
    const best = isByTasks || isOver(driver.state) ? bestCheckpoint(context.job, store) : null;
    return best === null || best.round === 0 ? null : best.round;
  }

  /**
   * Publishes the best checkpoint, and moves the tag `best` to it. An operator may move the tag elsewhere afterwards.
   */
  async #addBest(run: JobRun, round: number, registry: Registry): Promise<void> {
    const { name } = run.context.stored;
    const reason = `the best checkpoint of the job, of round ${round}`;
    const version = await this.#add(run, round, registry, reason, [BEST]);
    if (version === null || version.removedAt !== null) return;
    const wasTagged = registry.tagLog(name, BEST).some(({ to }) => to === version.number);
    if (!wasTagged) await registry.tag({ name, number: version.number }, BEST, reason);
  }

  /**
   * Publishes a checkpoint, and returns its version. Returns the existing version if the checkpoint was
   * published before, or null if the checkpoint's weights have been deleted.
   */
  async #add(
    run: JobRun,
    round: number,
    registry: Registry,
    reason: string,
    tags: readonly string[] = [],
    name = run.context.stored.name,
  ): Promise<AdapterVersion | null> {
    const { store, folders, log } = this.#deps;
    const { job, manifest } = run.context;
    const { publishedVersion } = await import('../../registry/publish-checkpoint.ts');
    const stored = store.rounds.checkpoint(job, round)!;
    const known = publishedVersion(registry, name, stored.digest);
    if (known !== null || stored.weights !== 'held') return known;
    const version = await publishStored(run, stored, { reason, tags, name }, { registry, folders, store });
    log.info({ job: manifest.name, round, version: version.label, registry: registry.home }, 'job-published');
    return version;
  }

  /**
   * Stores the figures of a checkpoint as a measurement of its version, unless this measurement is already
   * stored.
   */
  #measure(run: JobRun, { round, figures }: TaskResult, registry: Registry): void {
    const { store } = this.#deps;
    const { job, manifest } = run.context;
    const digest = store.rounds.checkpoint(job, round)?.digest;
    const version = registry.versions(manifest.name).find((one) => one.manifest.job?.checkpoint === digest);
    if (version === undefined || figures === null) return;
    const isStored = registry.measurements(version).some(({ source }) => source === SOURCE);
    if (!isStored) registry.measure(version, SOURCE, figures);
  }
}
