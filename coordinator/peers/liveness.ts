import type { Clock } from '../../common/clock.ts';
import { isSwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Quota, RateLimiter } from '../../common/rate-limiter.ts';
import { CLOCK_SKEW_MS, PEER_LOST_AFTER_MS } from '../../protocol/limits.ts';
import type { Heartbeat } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';

/** One every 2 s, and one at each change of state: a round has three. */
export const HEARTBEAT_QUOTA: Quota = { calls: 30, perMs: 10_000 };
/** States in which a node can take work at once; while joining or syncing it may have gigabytes to fetch first. */
const READY: readonly Heartbeat['state'][] = ['training', 'publishing', 'awaiting'];

export interface LivePeer {
  /** Newest heartbeat; null before the first after joining, or after a restart of the coordinator. */
  readonly heartbeat: Heartbeat | null;
  /** On the monotonic clock. */
  readonly seenAt: number;
  /** Has been ready for work since it joined; syncing between rounds does not take that back. */
  readonly ready: boolean;
}

export interface LivenessDeps {
  readonly clock: Clock;
  readonly limiter: RateLimiter;
  readonly log: Logger;
  admitted(peer: string): boolean;
  /** A node that was not there is there. */
  onCome(peer: string): void;
  /** A node that was not there is ready for work. */
  onReady(peer: string): void;
  /** A node waits for the round after `round`: whatever it had to do in that one is delivered or lost. */
  onIdle(peer: string, round: number): void;
  /** A node that was there is not any more. */
  onGone(peer: string, reason: 'left' | 'silent'): void;
}

/** Who of a job's nodes is there, by their signs of life. */
export class Liveness {
  readonly #job: string;
  readonly #deps: LivenessDeps;
  readonly #peers = new Map<string, LivePeer>();
  /** When those that are gone were last seen, on the monotonic clock. */
  readonly #gone = new Map<string, number>();
  /** Those of them that said goodbye: they join when they come back, and joining has a quota. */
  readonly #left = new Set<string>();
  /** Newest heartbeat's time of each admitted node, also of those that are gone. */
  readonly #issued = new Map<string, number>();

  constructor(options: { job: string }, deps: LivenessDeps) {
    this.#job = options.job;
    this.#deps = deps;
  }

  get size(): number {
    return this.#peers.size;
  }

  get(peer: string): LivePeer | null {
    return this.#peers.get(peer) ?? null;
  }

  /** A node was at work when the coordinator went away, and may still be. */
  expect(peer: string): void {
    this.#peers.set(peer, { heartbeat: null, seenAt: this.#deps.clock.monotonic(), ready: true });
  }

  /** A node has joined: it counts as there, not yet as ready. */
  join(peer: string): void {
    const known = this.#peers.get(peer);
    const seenAt = this.#deps.clock.monotonic();
    this.#left.delete(peer);
    this.#peers.set(peer, { heartbeat: known?.heartbeat ?? null, seenAt, ready: known?.ready ?? false });
    if (!known) this.#deps.onCome(peer);
  }

  /** When a node was last heard of, present or not, since the Unix epoch; null when it never was. */
  seenAt(peer: string): number | null {
    const { clock } = this.#deps;
    const at = this.#peers.get(peer)?.seenAt ?? this.#gone.get(peer);
    return at === undefined ? null : clock.now() - (clock.monotonic() - at);
  }

  leave(peer: string): void {
    this.#drop(peer, 'left');
  }

  /** A node is no longer admitted: nothing of it is remembered. */
  forget(peer: string): void {
    this.#drop(peer, 'left');
    this.#gone.delete(peer);
    this.#left.delete(peer);
    this.#issued.delete(peer);
  }

  /** A message from the peers topic. */
  receive(bytes: Uint8Array, sender: string): 'accept' | 'ignore' | 'reject' {
    if (!this.#deps.limiter.take(`heartbeat/${sender}`, HEARTBEAT_QUOTA)) return 'ignore';
    try {
      const { author, message } = verifyMessage('heartbeat', bytes);
      return this.#hear(author, message) ? 'accept' : 'ignore';
    } catch (error) {
      if (isSwarmError(error)) return 'reject';
      throw error;
    }
  }

  /** Drops nodes that have been silent for too long; to be called about as often as they should be heard. */
  sweep(): void {
    const oldest = this.#deps.clock.monotonic() - PEER_LOST_AFTER_MS;
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
    this.#deps.onGone(peer, reason);
  }

  #hear(author: string, heartbeat: Heartbeat): boolean {
    const now = this.#deps.clock.now();
    const known = this.#peers.get(author);
    if (heartbeat.job !== this.#job || !this.#deps.admitted(author) || this.#left.has(author)) return false;
    // Said again by somebody else, it must not keep a dead node alive. (One that came from beyond the tolerance was taken
    // before our own clock was set back, and says nothing any more.)
    const last = this.#issued.get(author) ?? 0;
    if (heartbeat.issuedAt <= last && last <= now + CLOCK_SKEW_MS) return false;
    const skewMs = heartbeat.issuedAt - now;
    if (Math.abs(skewMs) > CLOCK_SKEW_MS) {
      this.#deps.log.warn({ peer: author, skewMs, limitMs: CLOCK_SKEW_MS }, 'heartbeat-clock-off');
      return false;
    }
    this.#issued.set(author, heartbeat.issuedAt);
    if (heartbeat.state === 'leaving') {
      this.leave(author);
      return true;
    }
    const ready = READY.includes(heartbeat.state) || (known?.ready ?? false);
    this.#peers.set(author, { heartbeat, seenAt: this.#deps.clock.monotonic(), ready });
    if (!known) this.#deps.onCome(author);
    if (ready && !known?.ready) this.#deps.onReady(author);
    if (heartbeat.state === 'awaiting') this.#deps.onIdle(author, heartbeat.round);
    return true;
  }
}
