import { existsSync } from 'node:fs';
import type { Clock } from '../../common/time/clock.ts';
import type { CheckpointVersion } from '../../protocol/api/coordinator.ts';
import type { Signer } from '../../protocol/signing.ts';
import { databaseOf, type Registry } from '../../registry/registry.ts';
import type { CheckpointFolders } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import type { JobRun } from '../job-run.ts';
import { requireKept } from '../require-kept.ts';
import type { Store, StoredCheckpoint } from '../store/store.ts';
import { publishStored } from './publish-stored.ts';

export interface CheckpointTagsDeps {
  readonly store: Store;
  readonly folders: Pick<CheckpointFolders, 'path'>;
  readonly clock: Clock;
  readonly signer: Signer;
}

/** Reads and moves the tags of a job's checkpoints in the registry of adapters on this machine. */
export class CheckpointTags {
  readonly #home: string | null;
  readonly #deps: CheckpointTagsDeps;

  /** @param options.registry folder of the registry; null if the coordinator publishes nothing */
  constructor(options: { registry: string | null }, deps: CheckpointTagsDeps) {
    this.#home = options.registry;
    this.#deps = deps;
  }

  /** Returns the versions of a job's checkpoints, oldest first; null if the coordinator has no registry. */
  async versions(run: JobRun): Promise<CheckpointVersion[] | null> {
    if (this.#home === null) return null;
    // Do not open a registry that does not exist yet, because opening would create it.
    if (!existsSync(databaseOf(this.#home))) return [];
    return this.#with(this.#home, async (registry) => versionsOf(run, registry));
  }

  /**
   * Moves a tag to the version of a checkpoint. A checkpoint that has no version yet is published first, which also
   * moves the tag `latest`, unless `latest` names a later checkpoint of the job.
   * @throws SwarmError NO_REGISTRY, TAG_NAME, CHECKPOINT_PRUNED, VERSION_REMOVED
   */
  async tag(
    run: JobRun,
    stored: StoredCheckpoint,
    tag: string,
    reason: string,
  ): Promise<CheckpointVersion[]> {
    if (this.#home === null) {
      throw coordinatorError('NO_REGISTRY', 'the coordinator runs without a registry (--no-publish)', {});
    }
    return this.#with(this.#home, async (registry) => {
      const { folders, store } = this.#deps;
      const { name } = run.context.stored;
      const { publishedVersion } = await import('../../registry/publish-checkpoint.ts');
      const known = publishedVersion(registry, name, stored.digest);
      if (known !== null) await registry.tag({ name, number: known.number }, tag, reason);
      else {
        requireKept({ kept: stored.weights === 'held', round: stored.round });
        await publishStored(run, stored, { reason, tags: [tag] }, { registry, folders, store });
      }
      return versionsOf(run, registry);
    });
  }

  async #with<T>(home: string, work: (registry: Registry) => Promise<T>): Promise<T> {
    const { openRegistry } = await import('../../registry/open.ts');
    const { clock, signer } = this.#deps;
    const registry = await openRegistry({ home }, { clock, signer: async () => signer });
    try {
      return await work(registry);
    } finally {
      registry.close();
    }
  }
}

function versionsOf({ context }: JobRun, registry: Registry): CheckpointVersion[] {
  return registry
    .versions(context.stored.name)
    .flatMap(({ label, tags, manifest: { job } }) =>
      job?.digest === context.job ? [{ checkpoint: job.checkpoint, label, tags }] : [],
    );
}
