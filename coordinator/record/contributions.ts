import { setImmediate } from 'node:timers/promises';
import type { Contribution, Store } from '../store/store.ts';

/** Number of rounds that are read before other work of the coordinator gets its turn. */
const ROUNDS_AT_ONCE = 20;

/** What all nodes have contributed to a job up to a round. */
export interface Ranking {
  /** The last round that is in the sums. */
  readonly round: number;
  /** The sums of all nodes, sorted by tokens in descending order. */
  readonly all: readonly Contribution[];
  /** Sum of the tokens of all nodes. */
  readonly tokens: number;
  /** Place and tokens of each node, by its peer id. The first place is 1. Nodes with equally many tokens share a place. */
  readonly places: ReadonlyMap<string, { readonly place: number; readonly tokens: number }>;
}

/**
 * Sums up what each node has contributed to a job. A second call reads only the rounds that have ended since the first
 * call, because a job can have millions of updates.
 */
export class Contributions {
  readonly #job: string;
  readonly #store: Store;
  readonly #byPeer = new Map<string, Contribution>();
  #ranking: Ranking | null = null;
  /** The last round that is in the sums. */
  #round = 0;

  constructor(job: string, deps: { store: Store }) {
    this.#job = job;
    this.#store = deps.store;
  }

  /** Returns the tokens in the merged updates of a node, up to the newest round in the sums. */
  tokensOf(peer: string): number {
    return this.#byPeer.get(peer)?.tokens ?? 0;
  }

  /** Adds the rounds up to `round`. Returns the sums of all nodes. */
  async upTo(round: number): Promise<Ranking> {
    while (this.#round < round) {
      const last = Math.min(round, this.#round + ROUNDS_AT_ONCE);
      for (const part of this.#store.updates.contributions(this.#job, this.#round + 1, last)) this.#add(part);
      this.#round = last;
      await setImmediate();
    }
    // All nodes of a job ask for their places after each round, so the nodes are sorted only once per round.
    if (this.#ranking !== null && this.#ranking.round === this.#round) return this.#ranking;
    this.#ranking = this.#rank();
    return this.#ranking;
  }

  #add({ peer, updates, tokens }: Contribution): void {
    const sum = this.#byPeer.get(peer);
    this.#byPeer.set(peer, {
      peer,
      updates: updates + (sum?.updates ?? 0),
      tokens: tokens + (sum?.tokens ?? 0),
    });
  }

  #rank(): Ranking {
    const all = [...this.#byPeer.values()].sort((a, b) => b.tokens - a.tokens || b.updates - a.updates);
    const places = new Map<string, { place: number; tokens: number }>();
    let place = 1;
    for (const [i, { peer, tokens }] of all.entries()) {
      if (tokens !== all[i - 1]?.tokens) place = i + 1;
      places.set(peer, { place, tokens });
    }
    return { round: this.#round, all, tokens: all.reduce((sum, { tokens }) => sum + tokens, 0), places };
  }
}

/**
 * Returns the place and the tokens of one node in a ranking, without any fact about another node except the number of
 * nodes and the sum of their tokens. Returns null if the node has contributed nothing.
 */
export function contributionOf(peer: string, { round, all, tokens, places }: Ranking) {
  const own = places.get(peer);
  return own === undefined ? null : { round, ...own, contributors: all.length, totalTokens: tokens };
}
