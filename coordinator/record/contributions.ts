import { setImmediate } from 'node:timers/promises';
import { verifyMessage } from '../../protocol/signing.ts';
import type { Store } from '../store/store.ts';

/** Number of rounds that are read before other work of the coordinator gets its turn. */
const ROUNDS_AT_ONCE = 20;

/** Number and tokens of a node's merged updates. */
export interface Contribution {
  readonly peer: string;
  readonly updates: number;
  /** Number of tokens that the node trained on. */
  readonly tokens: number;
}

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
 * Sums up what each node has contributed to a job. The sums come from the checkpoints, because the table of updates
 * lacks the updates that were made after a backup. A second call reads only the rounds that have ended since the first
 * call, because a job can have thousands of checkpoints, and to verify one takes about a millisecond.
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
      for (const { envelope } of this.#store.rounds.checkpointsFrom(this.#job, this.#round + 1, last)) {
        for (const part of verifyMessage('checkpoint', envelope).message.contributors) this.#add(part);
      }
      this.#round = last;
      await setImmediate();
    }
    // All nodes of a job ask for their places after each round, so the nodes are sorted only once per round.
    if (this.#ranking !== null && this.#ranking.round === this.#round) return this.#ranking;
    this.#ranking = this.#rank();
    return this.#ranking;
  }

  /** Forgets the sums, because earlier checkpoints have changed. The next call reads all rounds again. */
  forget(): void {
    this.#byPeer.clear();
    this.#ranking = null;
    this.#round = 0;
  }

  #add({ peer, tokens }: Pick<Contribution, 'peer' | 'tokens'>): void {
    const { updates, tokens: before } = this.#byPeer.get(peer) ?? { updates: 0, tokens: 0 };
    this.#byPeer.set(peer, { peer, updates: updates + 1, tokens: before + tokens });
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
