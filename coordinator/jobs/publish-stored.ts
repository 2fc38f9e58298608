import { verifyMessage } from '../../protocol/signing.ts';
import type { Registry } from '../../registry/registry.ts';
import type { AdapterVersion } from '../../registry/version.ts';
import type { CheckpointFolders } from '../context.ts';
import type { JobRun } from '../job-run.ts';
import type { Store, StoredCheckpoint } from '../store/store.ts';

export interface PublishStoredOptions {
  readonly reason: string;
  /** Tags to move to the version, in addition to `latest`. */
  readonly tags: readonly string[];
  /** Name of the adapter. @default the name of the job */
  readonly name?: string;
}

export interface PublishStoredDeps {
  readonly registry: Registry;
  readonly folders: Pick<CheckpointFolders, 'path'>;
  readonly store: Pick<Store, 'rounds'>;
}

/**
 * Adds a checkpoint to a registry, with the settings of its round. The weights of the checkpoint must still
 * exist.
 */
export async function publishStored(
  { context }: JobRun,
  { digest, round, envelope }: StoredCheckpoint,
  options: PublishStoredOptions,
  { registry, folders, store }: PublishStoredDeps,
): Promise<AdapterVersion> {
  const { publishable, publishCheckpoint } = await import('../../registry/publish-checkpoint.ts');
  const { job, manifest, settings } = context;
  const { message } = verifyMessage('checkpoint', envelope);
  const { version } = await publishCheckpoint(registry, {
    folder: folders.path(manifest.name, round),
    job,
    manifest,
    changes: settings.changes.map(({ record }) => record),
    checkpoint: publishable(digest, message),
    curve: store.rounds
      .losses(job)
      .filter((point) => point.round <= round)
      .map((point) => ({ round: point.round, heldOutLoss: point.loss, restores: point.restores })),
    ...options,
  });
  return version;
}
