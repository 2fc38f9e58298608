import { setTimeout as sleep } from 'node:timers/promises';
import { isSwarmError } from '../../common/errors.ts';
import type { JobEvent } from '../api/types.ts';
import type { ApiClient } from './api-client.ts';

/** A coordinator that is restarted (after a crash, for an upgrade) is back within this time, or is not coming back. */
const AWAY_MS = 60_000;
const RETRY_MS = 500;

/**
 * All events of a job from its first and those to come, each once, also across a restart of the coordinator.
 * `open` makes a client anew: a restarted daemon has another port and token.
 * @throws SwarmError DAEMON_NOT_RUNNING when it stays away, or what the API refuses with
 */
export async function* followJob(
  open: () => Promise<ApiClient>,
  job: string,
  { signal, now }: { signal: AbortSignal; now: () => number },
): AsyncGenerator<JobEvent, void, undefined> {
  let after = 0;
  /** Since when it cannot be reached; null while it can. A round may take longer than that without any event. */
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
      // Anything else is a stream that broke: until then it was there.
      if (!isSwarmError(error)) awaySince = null;
      else {
        awaySince ??= now();
        if (now() - awaySince > AWAY_MS) throw error;
      }
    }
    await sleep(RETRY_MS, undefined, { signal });
  }
}

/** Asks a coordinator that may just be restarting, once it is back. @throws as followJob */
export async function askPatiently<T>(
  open: () => Promise<ApiClient>,
  ask: (api: ApiClient) => Promise<T>,
  { signal, now }: { signal: AbortSignal; now: () => number },
): Promise<T> {
  for (const since = now(); ; ) {
    try {
      return await ask(await open());
    } catch (error) {
      signal.throwIfAborted();
      if (isAnswer(error) || now() - since > AWAY_MS) throw error;
    }
    await sleep(RETRY_MS, undefined, { signal });
  }
}

/** What the coordinator answers is final; that it does not answer may be over soon. */
function isAnswer(error: unknown): boolean {
  return isSwarmError(error) && error.code !== 'DAEMON_NOT_RUNNING';
}
