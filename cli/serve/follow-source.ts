import { requireKept } from '../../coordinator/require-kept.ts';
import {
  type AdapterSource,
  type ApiClient,
  type CheckpointView,
  isSwarmError,
  type ServedVersion,
} from '../../index.ts';
import { isDaemonAway } from '../../storage/daemon-home.ts';

/**
 * Milliseconds for which the newest checkpoint is served without asking the coordinator again. A round takes longer, so
 * asking more often would rarely find a new checkpoint.
 */
const FRESH_MS = 1_000;

export interface FollowDeps {
  /** Opens a client of the coordinator. Called again after a restart of the coordinator, which may change the port. */
  readonly open: () => Promise<ApiClient>;
  /** Returns a time in milliseconds, from which durations are measured. */
  readonly now: () => number;
  /** Called with a message when the coordinator does not answer, and the last known checkpoint is served instead. */
  readonly onWarning: (text: string) => void;
}

/**
 * Returns a source that serves the checkpoints of a job of the coordinator on this machine. It serves the newest
 * checkpoint, unless a request names the checkpoint of a round (`JOB:ROUND`) or the best one (`JOB:best`). While the
 * coordinator does not answer, it serves the last known checkpoint.
 * @throws SwarmError JOB_UNKNOWN, DAEMON_NOT_RUNNING
 */
export async function followSource(
  job: string,
  { open, now, onWarning }: FollowDeps,
): Promise<AdapterSource> {
  const { name } = await (await open()).job(job);
  let newest: { version: ServedVersion; at: number } | null = null;
  const latest = async (): Promise<ServedVersion> => {
    if (newest !== null && now() - newest.at < FRESH_MS) return newest.version;
    try {
      const version = versionOf(await (await open()).checkpoint(name, 'latest'));
      newest = { version, at: now() };
    } catch (error) {
      if (newest === null || !isAway(error)) throw error;
      onWarning(`the coordinator does not answer, so the last known checkpoint of ${name} is served`);
      newest = { ...newest, at: now() };
    }
    return newest.version;
  };
  return {
    name,
    origin: `job ${name}`,
    async find(choice) {
      if (choice === null) return latest();
      if ('digest' in choice) {
        const version = await latest();
        return version.digest.startsWith(choice.digest) ? version : null;
      }
      if (choice.tag === 'latest') return latest();
      if (choice.tag !== 'best' && !/^\d{1,9}$/.test(choice.tag)) return null;
      try {
        const which = choice.tag === 'best' ? 'best' : Number(choice.tag);
        return versionOf(await (await open()).checkpoint(name, which));
      } catch (error) {
        if (isSwarmError(error, 'CHECKPOINT_UNKNOWN')) return null;
        throw error;
      }
    },
  };
}

function versionOf({ round, kept, digest, path }: CheckpointView): ServedVersion {
  requireKept({ round, kept });
  return { digest, folder: async () => path };
}

function isAway(error: unknown): boolean {
  return isDaemonAway(error) || isSwarmError(error, 'DAEMON_TIMEOUT');
}
