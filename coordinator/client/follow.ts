import { setTimeout as sleep } from 'node:timers/promises';
import { withAbortReason } from '../../common/abort-reason.ts';
import { isSwarmError } from '../../common/errors.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import { isDaemonAway } from '../../storage/daemon-home.ts';
import { ApiClient, type CoordinatorAddress } from './api-client.ts';

/**
 * Time in milliseconds after which we stop trying to reach a coordinator. A restart after a crash or an upgrade is
 * faster.
 */
const MAX_AWAY_MS = 60_000;
const RETRY_MS = 500;

/** Options for following a job. */
export interface FollowOptions {
  /** When this signal aborts, the iteration throws the signal's reason. @default never aborts */
  readonly signal?: AbortSignal;
  /** Returns a time in milliseconds. Only differences of times are used. @default Date.now */
  readonly now?: () => number;
}

/**
 * Yields all past and future events of a job, each one once. Continues after a restart of the coordinator. The
 * iteration does not end when the job ends, so break out of it at an event of type `finished`.
 *
 * @param where the coordinator, or a function that opens a client. The function is called again after a restart,
 * because a restarted daemon may have a new port.
 * @param job name, digest or a unique prefix of the digest
 * @throws SwarmError DAEMON_NOT_RUNNING after a minute without the coordinator; JOB_UNKNOWN and other errors of the API
 */
export async function* followEvents(
  where: CoordinatorAddress | (() => Promise<ApiClient>),
  job: string,
  { signal = new AbortController().signal, now = Date.now }: FollowOptions = {},
): AsyncGenerator<JobEvent, void, undefined> {
  const open = typeof where === 'function' ? where : () => ApiClient.connect(where, { signal });
  let after = 0;
  /** Time of the first failed attempt since the stream was last open; null if no attempt has failed since then. */
  let awaySince: number | null = null;
  for (;;) {
    signal.throwIfAborted();
    try {
      const api = await open();
      for await (const event of api.events(job, { after, follow: true, signal })) {
        after = event.sequence;
        yield event;
      }
      awaySince = null;
    } catch (error) {
      signal.throwIfAborted();
      if (isAnswer(error)) throw error;
      // The wait starts again if the stream broke after the coordinator had answered.
      if (!isSwarmError(error) || error.values.began === true) awaySince = null;
      else {
        awaySince ??= now();
        if (now() - awaySince > MAX_AWAY_MS) throw error;
      }
    }
    await withAbortReason(signal, () => sleep(RETRY_MS, undefined, { signal }));
  }
}

/**
 * Returns whether a job has paused itself at the event `pause`, and has stayed paused since. Returns false if
 * the operator paused the job.
 * @param pause sequence number of the event `paused`
 * @throws the errors of `followEvents`; DAEMON_TIMEOUT after a minute without an answer
 */
export function needsOperatorSince(
  open: () => Promise<ApiClient>,
  job: string,
  pause: number,
  options: { signal: AbortSignal; now: () => number },
): Promise<boolean> {
  const ask = async (api: ApiClient): Promise<boolean> => {
    if (!(await api.job(job)).needsOperator) return false;
    for await (const { type } of api.events(job, { after: pause, follow: false })) {
      if (type === 'resumed') return false;
    }
    return true;
  };
  return askWithRetries(open, ask, options);
}

/**
 * Sends a request to a coordinator that may be restarting or busy. Repeats the request until an answer arrives.
 * @throws the errors of `followEvents`; DAEMON_TIMEOUT after a minute without an answer
 */
async function askWithRetries<T>(
  open: () => Promise<ApiClient>,
  ask: (api: ApiClient) => Promise<T>,
  { signal, now }: { signal: AbortSignal; now: () => number },
): Promise<T> {
  for (const since = now(); ; ) {
    try {
      return await ask(await open());
    } catch (error) {
      signal.throwIfAborted();
      if (isAnswer(error) || now() - since > MAX_AWAY_MS) throw error;
    }
    await sleep(RETRY_MS, undefined, { signal });
  }
}

/** Returns whether the error is an answer of the coordinator. Repeating the request would give the same answer. */
function isAnswer(error: unknown): boolean {
  return isSwarmError(error) && !isDaemonAway(error) && error.code !== 'DAEMON_TIMEOUT';
}
