import { FairTurns } from '../../common/limits/fair-turns.ts';
import type { Clock } from '../../common/time/clock.ts';
import { sleep } from '../../common/time/deadline.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import type { Scrub } from './scrub.ts';

/** Maximum time that the request of a peer waits for the check of a blob. */
const ANSWER_MS = 5_000;
/**
 * Time in milliseconds for which the coordinator remembers that a blob is whole, and does not read it again. A node
 * that got the answer `checking` asks again within this time, even if many other blobs had to be checked before.
 */
const WHOLE_MS = 10 * 60_000;
/**
 * Time in milliseconds for which the coordinator remembers that a blob is damaged. It is shorter than WHOLE_MS, because
 * the next attempt to repair the blob may succeed.
 */
const DAMAGED_MS = 60_000;
/**
 * Length of a slice for {@link FairTurns}, in milliseconds. It has no effect here, because every check takes
 * longer than a slice.
 */
const SLICE_MS = 8;

type Result = 'whole' | 'damaged';

interface RechecksDeps {
  readonly scrub: Pick<Scrub, 'check'>;
  readonly clock: Clock;
  readonly network: Pick<SwarmNetwork, 'networkOf'>;
  readonly signal: AbortSignal;
}

/**
 * Checks blobs again that peers could not fetch. Checks one blob at a time, so that peers cannot make the
 * coordinator read its whole disk. Addresses take turns, and so do the peers of an address. A peer that asks
 * for many blobs therefore delays other peers by at most one check.
 */
export class Rechecks {
  readonly #deps: RechecksDeps;
  readonly #turns: FairTurns;
  readonly #results = new Map<string, { result: Result; until: number }>();

  constructor(deps: RechecksDeps) {
    this.#deps = deps;
    this.#turns = new FairTurns({ sliceMs: SLICE_MS }, deps);
  }

  /**
   * Answers whether a blob is whole. Waits for a check for ANSWER_MS at most, and returns `checking` after that. The
   * check itself continues. A peer waits for one blob at a time. A later call for another blob replaces the earlier
   * call.
   * @param options.mayStart whether this peer may cause a check. If not, only an earlier result is returned
   */
  async state(
    digest: string,
    { peer, mayStart }: { peer: string; mayStart: boolean },
  ): Promise<Result | 'checking'> {
    const known = this.#known(digest);
    if (known !== null) return known;
    if (!mayStart) return 'checking';
    const { clock, signal } = this.#deps;
    const answered = new AbortController();
    const waiting = AbortSignal.any([signal, answered.signal]);
    const late = sleep(clock, ANSWER_MS, waiting).then(() => 'checking' as const);
    try {
      return await Promise.race([this.#check(digest, peer), late]);
    } finally {
      // Cancels the timer.
      answered.abort();
    }
  }

  async #check(digest: string, peer: string): Promise<Result | 'checking'> {
    const { scrub, clock, network, signal } = this.#deps;
    const end = await this.#turns.take({ address: network.networkOf(peer), peer, known: true }, signal);
    if (end === null) return 'checking';
    try {
      // Look for a known result again. While this call waited, the blob may have been checked for another
      // peer.
      const known = this.#known(digest);
      if (known !== null) return known;
      const result = (await scrub.check(digest)) ? 'whole' : 'damaged';
      const until = clock.monotonic() + (result === 'whole' ? WHOLE_MS : DAMAGED_MS);
      this.#results.set(digest, { result, until });
      return result;
    } finally {
      end();
    }
  }

  #known(digest: string): Result | null {
    const now = this.#deps.clock.monotonic();
    for (const [key, { until }] of this.#results) if (until <= now) this.#results.delete(key);
    return this.#results.get(digest)?.result ?? null;
  }
}
