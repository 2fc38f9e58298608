import { raceSignal } from 'race-signal';
import { FairTurns } from '../../common/limits/fair-turns.ts';
import { Permits } from '../../common/limits/permits.ts';
import type { Clock } from '../../common/time/clock.ts';
import { withProgress } from '../../common/time/progress-deadline.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import { BLOB_IDLE_TIMEOUT_MS } from '../../protocol/limits.ts';
import { coordinatorError } from '../errors.ts';

/**
 * Maximum number of payloads that are fetched at the same time. Each fetch has a different author, so a slow
 * author takes up only one fetch. A fetch holds at most 28 ranges of 1 MiB in memory (net/blobs/download.ts),
 * so all fetches together stay below 0.5 GiB. More fetches would hardly be faster, because 16 authors with an
 * upstream of 2 Mbit/s already use the downstream of most coordinators.
 */
export const FETCHES_AT_ONCE = 16;
/**
 * Minimum rate, in bytes per second, at which a fetch keeps its place while another author waits. The rate is
 * 2 Mbit/s, the upstream of a slow line. A slower fetch gives way to the author that waits.
 */
export const MIN_FETCH_RATE = 256 * 1024;
/**
 * Time without a byte, in milliseconds, after which a fetch fails. It is long enough for two attempts: one stream that
 * times out, and a second stream that works. Every fetch keeps its place for at least this time, even if its payload is
 * small.
 */
export const FETCH_STALL_MS = 2 * BLOB_IDLE_TIMEOUT_MS;
/** Interval in milliseconds at which a waiting author checks whether a running fetch must give way. */
const LOOK_MS = 1_000;

/**
 * Returns the time in milliseconds after which a running fetch gives way to an author that waits.
 * @param size size of the payload in bytes
 */
export function fetchTimeoutMs(size: number): number {
  return FETCH_STALL_MS + Math.ceil((size / MIN_FETCH_RATE) * 1000);
}

interface Payload {
  readonly digest: string;
  readonly size: number;
}

/** A fetch in progress. */
interface Running {
  readonly digest: string;
  /** Time from which the fetch gives way to other authors, on the monotonic clock. */
  readonly dueAt: number;
  readonly giveWay: AbortController;
}

export interface PayloadFetchesDeps {
  network: Pick<SwarmNetwork, 'fetchBlob' | 'networkOf'>;
  clock: Clock;
}

/**
 * Fetches announced payloads from their authors. A fetch may take any time as long as bytes arrive. But if another
 * author waits for a place, a fetch that is slower than MIN_FETCH_RATE loses its place. If several authors wait for a
 * place, their network addresses take turns, so a crowd at one address cannot delay an author at another address.
 */
export class PayloadFetches {
  readonly #deps: PayloadFetchesDeps;
  readonly #places = new Permits(FETCHES_AT_ONCE);
  /** One permit for each author, and one for each digest, so that no author and no blob has two fetches. */
  readonly #alone = new Permits(1);
  /** The line of the authors that wait for a place. The author whose turn it is waits for the next free place. */
  readonly #line: FairTurns;
  readonly #running = new Set<Running>();

  constructor(deps: PayloadFetchesDeps) {
    this.#deps = deps;
    // A turn needs no limit on its time, because it only waits, and the event loop runs meanwhile.
    this.#line = new FairTurns({ sliceMs: Infinity }, deps);
  }

  /**
   * Fetches a payload into the blob store.
   * @param again whether to fetch the payload even if the blob store has it
   * @throws SwarmError FETCH_GAVE_WAY, DEADLINE_EXCEEDED if no bytes arrive, the errors of `fetchBlob`; the signal's
   * reason
   */
  async fetch(
    author: string,
    payload: Payload,
    { again, signal }: { again: boolean; signal: AbortSignal },
  ): Promise<void> {
    const { network, clock } = this.#deps;
    const release = await this.#place(author, payload.digest, signal);
    const giveWay = new AbortController();
    const running = {
      digest: payload.digest,
      dueAt: clock.monotonic() + fetchTimeoutMs(payload.size),
      giveWay,
    };
    this.#running.add(running);
    const limits = {
      clock,
      idleMs: FETCH_STALL_MS,
      totalMs: Infinity,
      signal: AbortSignal.any([signal, giveWay.signal]),
      what: `the payload of ${author}`,
    };
    try {
      await withProgress(limits, (inner, onArrival) =>
        raceSignal(network.fetchBlob(payload, { holders: [author], again, signal: inner, onArrival }), inner),
      );
    } finally {
      this.#running.delete(running);
      release();
    }
  }

  /**
   * Takes three permits in this order: one for the author, one for the blob, and one of the FETCHES_AT_ONCE places.
   * While it waits for the blob or for a place, it ends an overdue fetch that is in the way. The time limit of the new
   * fetch begins when it has all permits.
   */
  async #place(author: string, digest: string, signal: AbortSignal): Promise<() => void> {
    const taken: (() => void)[] = [];
    const release = (): void => {
      for (const give of taken) give();
    };
    try {
      taken.push(await this.#alone.take(author, signal));
      taken.push(
        await this.#endingSlow(
          () => this.#alone.take(digest, signal),
          (running) => running.digest === digest,
        ),
      );
      taken.push(await this.#nextPlace(author, signal));
      return release;
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Waits in the line, and then for a place. */
  async #nextPlace(author: string, signal: AbortSignal): Promise<() => void> {
    const address = this.#deps.network.networkOf(author);
    // `networkOf` returns the peer id of an author that is not connected. All these authors together count as one
    // address, because otherwise an attacker could get more turns by closing its connections.
    const claim = { address: address === author ? '' : address, peer: author, known: true };
    const end = await this.#line.take(claim, signal);
    if (end === null) throw signal.reason;
    try {
      return await this.#endingSlow(
        () => this.#places.take('', signal),
        () => true,
      );
    } finally {
      end();
    }
  }

  /**
   * Waits for a permit. Meanwhile, looks at the fetches that `isInTheWay` selects, and ends the slowest if it is
   * overdue.
   */
  async #endingSlow<T>(take: () => Promise<T>, isInTheWay: (running: Running) => boolean): Promise<T> {
    const { clock } = this.#deps;
    const look = (): void => {
      const [slowest] = [...this.#running].filter(isInTheWay).sort((a, b) => a.dueAt - b.dueAt);
      if (slowest !== undefined && slowest.dueAt <= clock.monotonic()) {
        slowest.giveWay.abort(
          coordinatorError('FETCH_GAVE_WAY', 'the payload arrived too slowly while another author waited'),
        );
      }
      cancel = clock.after(LOOK_MS, look);
    };
    // Look only in a timer, even the first time. If a permit is free, `take` gets it before the timer runs,
    // and no fetch is ended.
    let cancel = clock.after(0, look);
    try {
      return await take();
    } finally {
      cancel();
    }
  }
}
