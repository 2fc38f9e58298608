import { setImmediate } from 'node:timers/promises';
import type { Contribution, Store } from '../store/store.ts';

/** Number of rounds that are read before other work of the coordinator gets its turn. */
const ROUNDS_AT_ONCE = 20;

/**
 * Sums up what each node has contributed to a job. A second call reads only the rounds that have ended since the first
 * call, because a job can have millions of updates.
 */
export class Contributions {
  readonly #job: string;
  readonly #store: Store;
  readonly #byPeer = new Map<string, Contribution>();
  /** The last round that is in the sums. */
  #round = 0;

  constructor(job: string, deps: { store: Store }) {
    this.#job = job;
    this.#store = deps.store;
  }

  /** Adds the rounds up to `round`. Returns the sums of all nodes, sorted by tokens in descending order. */
  async upTo(round: number): Promise<Contribution[]> {
    while (this.#round < round) {
      const last = Math.min(round, this.#round + ROUNDS_AT_ONCE);
      for (const part of this.#store.updates.contributions(this.#job, this.#round + 1, last)) this.#add(part);
      this.#round = last;
      await setImmediate();
    }
    return [...this.#byPeer.values()].sort((a, b) => b.tokens - a.tokens || b.updates - a.updates);
  }

  #add({ peer, updates, tokens }: Contribution): void {
    const sum = this.#byPeer.get(peer);
    this.#byPeer.set(peer, {
      peer,
      updates: updates + (sum?.updates ?? 0),
      tokens: tokens + (sum?.tokens ?? 0),
    });
  }
}
