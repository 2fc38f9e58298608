import { isSwarmError } from '../../common/errors.ts';
import { withSettings } from '../../protocol/job/settings.ts';
import type { RpcRequest, RpcResponse } from '../../protocol/requests/rpc.ts';
import { verifyOneSettings } from '../../protocol/settings-chain.ts';
import type { JobHistory, SettingsFrom } from '../../registry/job-settings.ts';
import type { ReadHead } from './reader.ts';

/** Maximum number of changes that are fetched. It is half of what a coordinator answers a peer in 10 s. */
const FETCHED_CHANGES = 20;

/**
 * Fetches the changes of a job's settings, back from the change that the head names. If the coordinator does not give all of
 * them, returns the manifest with the newest values and no changes, because the caller can use the adapter without them.
 * @param send sends the request `settings` to the coordinator
 */
export async function fetchHistory(
  { job, coordinator, manifest, head }: Pick<ReadHead, 'job' | 'coordinator' | 'manifest' | 'head'>,
  send: (request: RpcRequest<'settings'>) => Promise<RpcResponse<'settings'>>,
): Promise<JobHistory> {
  if (head.settings === undefined) return { manifest };
  const onlyNewest = { manifest: withSettings(manifest, head.settings.values) };
  const changes: SettingsFrom[] = [];
  let digest: string | null = head.settings.record;
  try {
    while (digest !== null) {
      const { settings } = await send({ job, record: digest });
      if (settings === null || changes.length === FETCHED_CHANGES) return onlyNewest;
      const { record } = verifyOneSettings(settings, { job, coordinator, digest });
      changes.unshift({ fromRound: record.fromRound, values: record.values });
      digest = record.previous;
    }
    return { manifest, changes };
  } catch (error) {
    // As for the loss curve, the coordinator may have refused the request or sent a bad signature. The earlier values are
    // optional, so these errors are ignored. Other errors, such as an AbortError, are thrown.
    if (isSwarmError(error)) return onlyNewest;
    throw error;
  }
}
