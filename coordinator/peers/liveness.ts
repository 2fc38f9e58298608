import { isSwarmError } from '../../common/errors.ts';
import type { Quota } from '../../common/rate-limiter.ts';
import { CLOCK_SKEW_MS, PEER_LOST_AFTER_MS } from '../../protocol/limits.ts';
import type { Heartbeat } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { RunContext } from '../context.ts';

/** A node sends one heartbeat every 2 s and one at each change of state, of which a round has three. */
export const HEARTBEAT_QUOTA: Quota = { calls: 30, perMs: 10_000 };
/** States in which a node can train at once. While joining or syncing it may have gigabytes to fetch first. */
const READY: readonly Heartbeat['state'][] = ['training', 'publishing', 'awaiting'];

export interface LivePeer {
  /** Newest heartbeat; null before the first one after joining or after a restart of the coordinator. */
  readonly heartbeat: Heartbeat | null;
  /** On the monotonic clock. */
  readonly seenAt: number;
  /** Has been ready to train since it joined. Syncing between rounds does not change that. */
  readonly ready: boolean;
}

/** The caller's reactions to changes of presence. */
export interface LivenessEvents {
  /** A node appeared. */
  onPresent(peer: string): void;
  /** A node became ready to train. */
  onReady(peer: string): void;
  /** A node waits for the round after `round`: its update of `round` has been delivered or is lost. */
  onIdle(peer: string, round: number): void;
  /** A node disappeared. */
  onGone(peer: string, reason: 'left' | 'silent'): void;
}

/** Tracks which members of a job are present, by their heartbeats. */
export class Liveness {
  readonly #context: RunContext;
  readonly #isMember: (peer: string) => boolean;
  readonly #events: LivenessEvents;
  readonly #peers = new Map<string, LivePeer>();
  /** When absent peers were last seen, on the monotonic clock. */
  readonly #gone = new Map<string, number>();
  /** Absent peers that said goodbye. They must join again, which has a quota. */
  readonly #left = new Set<string>();
  /** Time of the newest heartbeat of each member, present or absent. */
  readonly #issued = new Map<string, number>();

  constructor(deps: { context: RunContext; isMember: (peer: string) => boolean; events: LivenessEvents }) {
    this.#context = deps.context;
    this.#isMember = deps.isMember;
    this.#events = deps.events;
  }

  /** Number of peers present, ready or not. */
  get size(): number {
    return this.#peers.size;
  }

  get(peer: string): LivePeer | null {
    return this.#peers.get(peer) ?? null;
  }

  /** Counts a peer as present that was training when the coordinator stopped. */
  expect(peer: string): void {
    this.#peers.set(peer, { heartbeat: null, seenAt: this.#context.deps.clock.monotonic(), ready: true });
  }

  /** Counts a peer that joined as present, not yet as ready. */
  join(peer: string): void {
    const known = this.#peers.get(peer);
    const seenAt = this.#context.deps.clock.monotonic();
    this.#left.delete(peer);
    this.#peers.set(peer, { heartbeat: known?.heartbeat ?? null, seenAt, ready: known?.ready ?? false });
    if (!known) this.#events.onPresent(peer);
  }

  /** Returns when a peer was last heard since this coordinator started, in ms since the epoch; null: not heard. */
  seenAt(peer: string): number | null {
    const { clock } = this.#context.deps;
    const at = this.#peers.get(peer)?.seenAt ?? this.#gone.get(peer);
    return at === undefined ? null : clock.now() - (clock.monotonic() - at);
  }

  leave(peer: string): void {
    this.#drop(peer, 'left');
  }

  /** Forgets a peer that is no longer a member. */
  forget(peer: string): void {
    this.#drop(peer, 'left');
    this.#gone.delete(peer);
    this.#left.delete(peer);
    this.#issued.delete(peer);
  }

  /** Takes a message of the peers topic. */
  receive(bytes: Uint8Array, sender: string): 'accept' | 'ignore' | 'reject' {
    if (!this.#context.limiter.take(`heartbeat/${sender}`, HEARTBEAT_QUOTA)) return 'ignore';
    try {
      const { author, message } = verifyMessage('heartbeat', bytes);
      return this.#take(author, message) ? 'accept' : 'ignore';
    } catch (error) {
      if (isSwarmError(error)) return 'reject';
      throw error;
    }
  }

  /** Drops peers that have been silent for too long. To be called once per heartbeat interval. */
  dropSilent(): void {
    const oldest = this.#context.deps.clock.monotonic() - PEER_LOST_AFTER_MS;
    for (const [peer, { seenAt }] of this.#peers) {
      if (seenAt < oldest) this.#drop(peer, 'silent');
    }
  }

  #drop(peer: string, reason: 'left' | 'silent'): void {
    const known = this.#peers.get(peer);
    if (!known) return;
    this.#peers.delete(peer);
    this.#gone.set(peer, known.seenAt);
    if (reason === 'left') this.#left.add(peer);
    this.#events.onGone(peer, reason);
  }

  /** Returns whether the heartbeat counts. */
  #take(author: string, heartbeat: Heartbeat): boolean {
    const { job, deps } = this.#context;
    const now = deps.clock.now();
    const known = this.#peers.get(author);
    if (heartbeat.job !== job || !this.#isMember(author) || this.#left.has(author)) return false;
    // A replayed heartbeat must not keep a dead node present. (A newest heartbeat beyond the tolerance was taken before our
    // clock was set back, and no longer proves a replay.)
    const last = this.#issued.get(author) ?? 0;
    if (heartbeat.issuedAt <= last && last <= now + CLOCK_SKEW_MS) return false;
    const skewMs = heartbeat.issuedAt - now;
    if (Math.abs(skewMs) > CLOCK_SKEW_MS) {
      deps.log.warn({ peer: author, skewMs, limitMs: CLOCK_SKEW_MS }, 'heartbeat-refused');
      return false;
    }
    this.#issued.set(author, heartbeat.issuedAt);
    if (heartbeat.state === 'leaving') {
      this.leave(author);
      return true;
    }
    const ready = READY.includes(heartbeat.state) || (known?.ready ?? false);
    this.#peers.set(author, { heartbeat, seenAt: deps.clock.monotonic(), ready });
    if (!known) this.#events.onPresent(author);
    if (ready && !known?.ready) this.#events.onReady(author);
    if (heartbeat.state === 'awaiting') this.#events.onIdle(author, heartbeat.round);
    return true;
  }
}
