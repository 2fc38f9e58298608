import { setTimeout as sleep } from 'node:timers/promises';
import type { JobEvent } from '../coordinator/api-types.ts';
import { isSwarmError, SwarmError } from '../protocol/errors.ts';
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
  let lastSeen = now();
  for (;;) {
    signal.throwIfAborted();
    let lost: unknown;
    try {
      const api = await open();
      for await (const event of api.events(job, { after, follow: true, signal })) {
        after = event.sequence;
        lastSeen = now();
        yield event;
      }
    } catch (error) {
      signal.throwIfAborted();
      // What the coordinator answers is final; that it does not answer may be over soon.
      if (isSwarmError(error) && error.code !== 'DAEMON_NOT_RUNNING') throw error;
      lost = error;
    }
    if (now() - lastSeen > AWAY_MS) {
      if (isSwarmError(lost)) throw lost;
      throw new SwarmError(
        'DAEMON_NOT_RUNNING',
        `the coordinator has not answered for ${AWAY_MS / 1000} s; start it again to go on with the job`,
        {},
        { cause: lost },
      );
    }
    await sleep(RETRY_MS, undefined, { signal });
  }
}
