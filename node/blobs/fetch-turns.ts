import { raceSignal } from 'race-signal';
import type { Clock } from '../../common/time/clock.ts';

/**
 * Time in milliseconds after which the fetch of a blob pauses if a job of another coordinator waits for the same blob.
 * Without this limit, a coordinator whose machines send very slowly could keep the blob from the jobs of other coordinators.
 */
export const FETCH_TURN_MS = 60_000;

interface Waiting {
  /** Peer id of the coordinator of the job. */
  readonly coordinator: string;
  readonly grant: () => void;
}

/** Lets the jobs of a node fetch the same blob one after another. */
export class FetchTurns {
  readonly #clock: Clock;
  /** A queue of fetches for each blob, by digest. The first fetch of a queue runs, and all other fetches wait. */
  readonly #queues = new Map<string, Waiting[]>();

  constructor(deps: { clock: Clock }) {
    this.#clock = deps.clock;
  }

  /**
   * Waits for the job's turn and runs `fetch`. If the turn ends before the fetch, aborts the fetch, waits for the next
   * turn, and runs `fetch` again.
   * @throws the errors of `fetch`, the signal's reason
   */
  async run(
    { digest, coordinator }: { digest: string; coordinator: string },
    signal: AbortSignal,
    fetch: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    for (;;) {
      const end = await this.#claim(digest, coordinator, signal);
      const turn = new AbortController();
      const stopTimer = this.#limit(digest, turn);
      try {
        return await fetch(AbortSignal.any([signal, turn.signal]));
      } catch (error) {
        if (signal.aborted || !turn.signal.aborted) throw error;
      } finally {
        stopTimer();
        end();
      }
    }
  }

  async #claim(digest: string, coordinator: string, signal: AbortSignal): Promise<() => void> {
    const queue = this.#queues.get(digest) ?? [];
    this.#queues.set(digest, queue);
    const { promise, resolve } = Promise.withResolvers<void>();
    const own: Waiting = { coordinator, grant: resolve };
    queue.push(own);
    if (queue.length === 1) resolve();
    const end = (): void => {
      queue.splice(queue.indexOf(own), 1);
      if (queue.length === 0) this.#queues.delete(digest);
      else queue[0]!.grant();
    };
    try {
      await raceSignal(promise, signal);
      return end;
    } catch (error) {
      end();
      throw error;
    }
  }

  /** Checks every FETCH_TURN_MS whether a job of another coordinator waits for the blob. If so, aborts the turn. */
  #limit(digest: string, turn: AbortController): () => void {
    const check = (): void => {
      const [own, ...others] = this.#queues.get(digest)!;
      if (others.some(({ coordinator }) => coordinator !== own!.coordinator)) turn.abort();
      else cancel = this.#clock.after(FETCH_TURN_MS, check);
    };
    let cancel = this.#clock.after(FETCH_TURN_MS, check);
    return () => cancel();
  }
}
