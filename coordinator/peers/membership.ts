import { counts, type ReceiptCode } from '../../protocol/receipts.ts';
import type { RunContext } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import type { StoredPeer, StoredReceipt } from '../store/store.ts';
import { checkAdmission } from './admission.ts';

/** Nodes that have a place in one job: bounds what strangers can make us remember. */
export const ADMITTED_PEERS = 4096;
/** Senders that are tallied without having joined. */
const TALLIED_STRANGERS = 1024;

export interface Tally {
  readonly accepted: number;
  readonly refused: number;
  readonly last: { readonly round: number; readonly code: ReceiptCode; readonly detail: string } | null;
}

const NONE: Tally = { accepted: 0, refused: 0, last: null };

/** Whom a job has admitted, how fast they are, and how they have done. */
export class Roster {
  readonly #context: RunContext;
  readonly #peers: Map<string, StoredPeer>;
  readonly #tallies = new Map<string, Tally>();
  /** Newest round of which a node has an update that was not refused. */
  readonly #deliveries: Map<string, number>;
  /** The round that was open when a node joined; of those that were there before the start, when that was. */
  readonly #joined = new Map<string, number>();
  readonly #startRound: number;

  constructor(_options: object, deps: { context: RunContext }) {
    this.#context = deps.context;
    const { job, deps: world } = this.#context;
    this.#peers = new Map(world.store.peers.all(job).map((peer) => [peer.peer, peer]));
    this.#deliveries = world.store.updates.lastDeliveries(job);
    this.#startRound = world.store.rounds.newest(job, 1)[0]?.round ?? 0;
    for (const { peer, code, count } of world.store.updates.receiptCounts(job)) this.#add(peer, code, count);
    for (const peer of this.#tallies.keys()) {
      const [newest] = world.store.updates.receipts(job, peer, 1);
      if (newest) this.#tallies.set(peer, { ...this.tally(peer), last: newest });
    }
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

  tally(peer: string): Tally {
    return this.#tallies.get(peer) ?? NONE;
  }

  /**
   * Admits a node, or takes note of what has changed about it.
   * @param options.vacate called when all places are taken: makes one free, or says that none can be
   * @returns the entry, and whether it has to be recorded
   * @throws SwarmError NOT_ADMITTED, JOB_FULL
   */
  join(
    peer: string,
    asked: { invite: string | null; name: string; agent: string; engine: string },
    { vacate }: { vacate: () => boolean },
  ): { entry: StoredPeer; changed: boolean } {
    const { stored, deps } = this.#context;
    const known = this.#peers.get(peer);
    if (!known) {
      checkAdmission(stored.admission, stored.token, { peer, invite: asked.invite });
      if (this.#peers.size >= ADMITTED_PEERS && !vacate()) {
        const message = `all ${ADMITTED_PEERS} places of the job are taken by nodes that work; try again later`;
        throw coordinatorError('JOB_FULL', message, { limit: ADMITTED_PEERS });
      }
    }
    const { name, agent, engine } = asked;
    const changed = this.differs(peer, asked);
    const entry: StoredPeer = {
      peer,
      name,
      agent,
      engine,
      joinedAt: known?.joinedAt ?? deps.clock.now(),
      speed: known?.speed ?? 0,
      saidGoodbye: known?.saidGoodbye ?? false,
    };
    this.#peers.set(peer, entry);
    if (!known) this.#joined.set(peer, deps.store.rounds.newest(this.#context.job, 1)[0]?.round ?? 0);
    return { entry, changed };
  }

  /** Whether a node is new, or says something else of itself than before. */
  differs(peer: string, { name, agent, engine }: Pick<StoredPeer, 'name' | 'agent' | 'engine'>): boolean {
    const known = this.#peers.get(peer);
    return known?.name !== name || known.agent !== agent || known.engine !== engine;
  }

  /** A node is there again, or has gone. */
  setGoodbye(peer: string, saidGoodbye: boolean): void {
    const known = this.#peers.get(peer);
    if (known) this.#peers.set(peer, { ...known, saidGoodbye });
  }

  /** An update of a node has been recorded. */
  delivered(peer: string, round: number, speed: number): void {
    const known = this.#peers.get(peer);
    if (known) this.#peers.set(peer, { ...known, speed });
    this.#deliveries.set(peer, Math.max(round, this.#deliveries.get(peer) ?? 0));
  }

  /** Newest round of which a node has an update that was not refused; null: none. */
  lastDelivery(peer: string): number | null {
    return this.#deliveries.get(peer) ?? null;
  }

  joinedRound(peer: string): number {
    return this.#joined.get(peer) ?? this.#startRound;
  }

  /** Takes a node's place away. It may join again. */
  remove(peer: string): void {
    for (const map of [this.#peers, this.#tallies, this.#deliveries, this.#joined]) map.delete(peer);
  }

  /** Counts a receipt that has been given. */
  note(receipt: StoredReceipt): void {
    // Work that a merge has refused keeps nobody a place.
    const { peer, round, code } = receipt;
    if (!counts(code) && code !== 'null-round' && this.#deliveries.get(peer) === round)
      this.#deliveries.delete(peer);
    this.#add(receipt.peer, receipt.code, 1);
    if (this.#tallies.has(receipt.peer)) {
      this.#tallies.set(receipt.peer, { ...this.tally(receipt.peer), last: receipt });
    }
  }

  #add(peer: string, code: ReceiptCode, count: number): void {
    if (!this.#tallies.has(peer) && this.#tallies.size >= ADMITTED_PEERS + TALLIED_STRANGERS) return;
    const { accepted, refused, last } = this.tally(peer);
    // A null round is nobody's fault.
    const taken = counts(code);
    this.#tallies.set(peer, {
      accepted: accepted + (taken ? count : 0),
      refused: refused + (taken || code === 'null-round' ? 0 : count),
      last,
    });
  }
}
