import type { RunContext } from '../context.ts';
import type { StoredPeer } from '../store/store.ts';

/** The members of a job, in memory and in the store. Methods that write to the store are called in a transaction. */
export class MemberList {
  readonly #context: RunContext;
  readonly #peers: Map<string, StoredPeer>;
  /**
   * For each member, the number of the round that was the newest when the member joined. It has no entry for a member
   * that joined before this coordinator process started.
   */
  readonly #joinedRounds = new Map<string, number>();
  /** Number of the round that was the newest when this coordinator process started. */
  readonly #startRound: number;

  constructor(deps: { context: RunContext }) {
    this.#context = deps.context;
    const { job, deps: world } = this.#context;
    this.#peers = new Map(world.store.peers.all(job).map((peer) => [peer.peer, peer]));
    this.#startRound = world.store.rounds.newestNumber(job);
  }

  get size(): number {
    return this.#peers.size;
  }

  has(peer: string): boolean {
    return this.#peers.has(peer);
  }

  get(peer: string): StoredPeer | null {
    return this.#peers.get(peer) ?? null;
  }

  all(): readonly StoredPeer[] {
    return [...this.#peers.values()];
  }

  /** Adds or replaces a member. The caller writes it to the store. */
  set(member: StoredPeer): void {
    const { job, deps } = this.#context;
    if (!this.#peers.has(member.peer)) {
      this.#joinedRounds.set(member.peer, deps.store.rounds.newestNumber(job));
    }
    this.#peers.set(member.peer, member);
  }

  /** Changes fields of a member in memory only. Does nothing if the peer is not a member. */
  change(peer: string, fields: Partial<StoredPeer>): void {
    const known = this.#peers.get(peer);
    if (known) this.#peers.set(peer, { ...known, ...fields });
  }

  /** Removes a member from the list. The caller removes it from the store. */
  delete(peer: string): void {
    this.#peers.delete(peer);
    this.#joinedRounds.delete(peer);
  }

  /**
   * Returns the newest round at the time when a member joined. For a member that joined before this coordinator process
   * started, returns the newest round at the start of the process.
   */
  joinedRound(peer: string): number {
    return this.#joinedRounds.get(peer) ?? this.#startRound;
  }

  /**
   * Records whether a member is present, when it was last seen and whether it has said goodbye, so that `lora-swarm peers`
   * shows this even after a restart of the coordinator.
   */
  recordPresence(peer: string, presence: Pick<StoredPeer, 'saidGoodbye' | 'seenAt'>): void {
    this.#context.deps.store.peers.setPresence(this.#context.job, peer, presence);
    this.change(peer, presence);
  }
}
