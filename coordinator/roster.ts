import { SwarmError } from '../protocol/errors.ts';
import { counts, type ReceiptCode } from '../protocol/receipts.ts';
import { checkAdmission } from './admission.ts';
import type { JobContext } from './context.ts';
import type { StoredPeer, StoredReceipt } from './store/store.ts';

/** Nodes that one job admits over its life: bounds what strangers can make us remember. */
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
  private readonly context: JobContext;
  private readonly peers: Map<string, StoredPeer>;
  private readonly tallies = new Map<string, Tally>();

  constructor(_options: object, deps: { context: JobContext }) {
    this.context = deps.context;
    const { job, deps: world } = this.context;
    this.peers = new Map(world.store.peers.all(job).map((peer) => [peer.peer, peer]));
    for (const { peer, code, count } of world.store.updates.receiptCounts(job)) this.add(peer, code, count);
    for (const peer of this.tallies.keys()) {
      const [newest] = world.store.updates.receipts(job, peer, 1);
      if (newest) this.tallies.set(peer, { ...this.tally(peer), last: newest });
    }
  }

  has(peer: string): boolean {
    return this.peers.has(peer);
  }

  get(peer: string): StoredPeer | null {
    return this.peers.get(peer) ?? null;
  }

  all(): readonly StoredPeer[] {
    return [...this.peers.values()];
  }

  tally(peer: string): Tally {
    return this.tallies.get(peer) ?? NONE;
  }

  /**
   * Admits a node, or takes note of what has changed about it.
   * @returns the entry, and whether it has to be recorded
   * @throws SwarmError NOT_ADMITTED, JOB_FULL
   */
  join(
    peer: string,
    asked: { invite: string | null; name: string; agent: string; engine: string },
  ): { entry: StoredPeer; changed: boolean } {
    const { stored, deps } = this.context;
    const known = this.peers.get(peer);
    if (!known) {
      checkAdmission(stored.admission, stored.token, { peer, invite: asked.invite });
      if (this.peers.size >= ADMITTED_PEERS) {
        const message = `the job has admitted ${ADMITTED_PEERS} nodes, it takes no more`;
        throw new SwarmError('JOB_FULL', message, { limit: ADMITTED_PEERS });
      }
    }
    const { name, agent, engine } = asked;
    const entry: StoredPeer = {
      peer,
      name,
      agent,
      engine,
      joinedAt: known?.joinedAt ?? deps.clock.now(),
      speed: known?.speed ?? 0,
    };
    this.peers.set(peer, entry);
    const changed = known?.name !== name || known.agent !== agent || known.engine !== engine;
    return { entry, changed };
  }

  setSpeed(peer: string, speed: number): void {
    const known = this.peers.get(peer);
    if (known) this.peers.set(peer, { ...known, speed });
  }

  /** Counts a receipt that has been given. */
  note(receipt: StoredReceipt): void {
    this.add(receipt.peer, receipt.code, 1);
    if (this.tallies.has(receipt.peer)) {
      this.tallies.set(receipt.peer, { ...this.tally(receipt.peer), last: receipt });
    }
  }

  private add(peer: string, code: ReceiptCode, count: number): void {
    if (!this.tallies.has(peer) && this.tallies.size >= ADMITTED_PEERS + TALLIED_STRANGERS) return;
    const { accepted, refused, last } = this.tally(peer);
    // A null round is nobody's fault.
    const taken = counts(code);
    this.tallies.set(peer, {
      accepted: accepted + (taken ? count : 0),
      refused: refused + (taken || code === 'null-round' ? 0 : count),
      last,
    });
  }
}
