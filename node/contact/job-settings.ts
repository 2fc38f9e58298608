import type { Manifest } from '../../protocol/job/manifest.ts';
import { type ChangedSetting, changedSettings, firstSettings } from '../../protocol/job/settings.ts';
import { HeadSettings, type KnownChange } from './head-settings.ts';
import type { ContactDeps } from './port.ts';
import { request } from './requests.ts';

/**
 * Returns the check of the settings of a job. It fetches each change of the settings from the coordinator, keeps it in the
 * database, and logs it with the reason that the operator gave.
 */
export function jobSettings(
  deps: ContactDeps,
  { job, coordinator, manifest }: { job: string; coordinator: string; manifest: Manifest },
): HeadSettings {
  return new HeadSettings(
    { job, coordinator },
    {
      fetch: async (record, signal) =>
        (await request(deps, coordinator, 'settings', { job, record }, signal)).settings,
      keep: (change) => deps.store.kept.keepSettings(job, change),
      onChange: (change) => {
        const { fromRound, reason } = change.record;
        deps.log.info({ fromRound, reason, changes: changesOf(change, manifest) }, 'settings-changed');
      },
    },
  );
}

/** Returns the settings that a change has changed. */
export function changesOf(
  { before, record }: KnownChange,
  manifest: Pick<Manifest, 'training' | 'rounds'>,
): ChangedSetting[] {
  return changedSettings(before ?? firstSettings(manifest), record.values);
}
