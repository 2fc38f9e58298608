import { isSwarmError } from '../../common/errors.ts';
import { type Quota, RateLimiter } from '../../common/limits/rate-limiter.ts';
import { CLOCK_SKEW_MS, PEER_LOST_AFTER_MS } from '../../protocol/limits.ts';
import type { Heartbeat } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { RunContext } from '../context.ts';
import type { SignOfLife } from './identity-runs.ts';
import { clockHold, type RefusedNodes } from './refused-nodes.ts';

/**
 * Limit on the heartbeats of one node. In 10 s, a node sends five regular heartbeats (one every 2 s), and one more at
 * each change of its state. Its state changes three times in a round.
 */
export const HEARTBEAT_QUOTA: Quota = { calls: 30, perMs: 10_000 };
/**
 * Limit on how often the hold of one node may end. When a hold ends, the node counts for the plan of the next
 * round, so a node may not end its holds as often as it likes. A node that pauses while its owner uses the
 * machine exceeds this limit only if it pauses every two minutes for more than an hour. A node above the
 * limit keeps its hold until its quota has recovered, which takes 2 minutes for each end.
 */
export const HOLD_ENDS: Quota = { calls: 30, perMs: 60 * 60_000 };
/**
 * States in which a node can start to train without delay, or as soon as its trainer has finished a round of another
 * job. While a node is joining or syncing, it may first have to fetch gigabytes.
 */
const READY: readonly Heartbeat['state'][] = ['busy', 'training', 'publishing', 'awaiting'];

/**
 * Bytes that a node must receive between two heartbeats (2 s) to count as downloading. Without a download, gossip and
 * requests stay below this number.
 */
const DOWNLOAD_BYTES = 64 * 1024;

export type Hold = NonNullable<Heartbeat['hold']>;

export interface LivePeer {
  /** Newest heartbeat; null if none has arrived since the node joined or the coordinator restarted. */
  readonly heartbeat: Heartbeat | null;
  /**
   * Reason why the node takes no work for now; null if it takes work. If the node ends its holds more often
   * than HOLD_ENDS allows, the coordinator keeps a hold for longer than the node says.
   */
  readonly hold: Hold | null;
  /** Time of the peer's last sign of life, on the monotonic clock. */
  readonly seenAt: number;
  /**
   * Time at which the state, round, step or download in the peer's heartbeats last changed, on the monotonic clock. While
   * the peer is busy, a new round does not count.
   */
  readonly progressAt: number;
  /**
   * Whether the peer has reported, since it joined and since its last hold ended, that it is ready to train. A ready
   * peer stays ready while it is syncing between rounds.
   */
  readonly ready: boolean;
}

/**
 * Reason why a node is no longer present: it has said goodbye, it sends no heartbeats, or its heartbeats are refused
 * because its clock differs too much from the clock of the coordinator.
 */
export type Departure = 'left' | 'silent' | 'clock';

/** Callbacks for changes in the presence of nodes. */
export interface LivenessEvents {
  /** A node appeared. */
  onPresent(peer: string): void;
  /** A node became ready to train. */
  onReady(peer: string): void;
  /** A node waits for the round after `round`, because its update of `round` has been delivered or is lost. */
  onIdle(peer: string, round: number): void;
  /** A node takes no work for now (`hold` is the reason), or takes work again (null). */
  onHold(peer: string, hold: Hold | null): void;
  /**
   * A process of a node sent a heartbeat. Returns false if the heartbeats of this process do not count,
   * because another process with the same key began earlier and still runs.
   */
  onRun(sign: SignOfLife): boolean;
  /** A node disappeared. */
  onGone(peer: string, reason: Departure): void;
}

/** Tracks which members of a job are present, by their heartbeats. */
export class Liveness {
  readonly #context: RunContext;
  readonly #isMember: (peer: string) => boolean;
  readonly #events: LivenessEvents;
  readonly #peers = new Map<string, LivePeer>();
  /**
   * Returns the time of the last sign of life of an absent peer, in ms since the epoch. After a restart of the coordinator,
   * the map also has the times of expected peers from which no sign of life has arrived yet.
   */
  readonly #gone = new Map<string, () => number | null>();
  /**
   * Absent peers that said goodbye. Their heartbeats do not count until they join again. Joining has a quota,
   * so a peer cannot come and go without limit.
   */
  readonly #left = new Set<string>();
  /** The sending time in the newest heartbeat of each member, present or absent. */
  readonly #issued = new Map<string, number>();
  readonly #refused: RefusedNodes;
  /** Limits how often the hold of each member ends (see HOLD_ENDS). */
  readonly #holdEnds: RateLimiter;
  /**
   * Limits the heartbeats of each member. The limiter remembers as many keys as a job can have members, so it does not
   * forget the key of any member.
   */
  readonly #limiter: RateLimiter;

  constructor(deps: {
    context: RunContext;
    isMember: (peer: string) => boolean;
    events: LivenessEvents;
    /** Gets the members whose newest heartbeat was refused because of their clock. */
    refused: RefusedNodes;
  }) {
    this.#refused = deps.refused;
    this.#context = deps.context;
    this.#isMember = deps.isMember;
    this.#events = deps.events;
    this.#limiter = new RateLimiter({ clock: deps.context.deps.clock });
    this.#holdEnds = new RateLimiter({ clock: deps.context.deps.clock });
  }

  /** Number of peers present, ready or not. */
  get size(): number {
    return this.#peers.size;
  }

  get(peer: string): LivePeer | null {
    return this.#peers.get(peer) ?? null;
  }

  /** Returns the present peers that take no work for now, with the reason of each. */
  held(): { peer: string; hold: Hold }[] {
    return [...this.#peers].flatMap(([peer, { hold }]) => (hold === null ? [] : [{ peer, hold }]));
  }

  /** Notes when a peer was last seen before the coordinator started, in ms since the epoch. */
  recall(peer: string, seenAt: number): void {
    // Keep the calendar time, because the clock may be wrong now and be set later.
    this.#gone.set(peer, () => Math.min(seenAt, this.#context.deps.clock.now()));
  }

  /** Marks a peer as present, because it was training when the coordinator stopped. */
  expect(peer: string): void {
    const now = this.#context.deps.clock.monotonic();
    this.#peers.set(peer, { heartbeat: null, hold: null, seenAt: now, progressAt: now, ready: true });
  }

  /**
   * Notes that a peer has joined. The peer is then present. If it was not ready before, it becomes ready only with a
   * heartbeat.
   */
  join(peer: string): void {
    const known = this.#peers.get(peer);
    const seenAt = this.#context.deps.clock.monotonic();
    this.#left.delete(peer);
    this.#gone.delete(peer);
    this.#peers.set(peer, {
      heartbeat: known?.heartbeat ?? null,
      hold: known?.hold ?? null,
      seenAt,
      progressAt: known?.progressAt ?? seenAt,
      ready: known?.ready ?? false,
    });
    if (!known) this.#events.onPresent(peer);
  }

  /** Returns the time of a peer's last sign of life, in ms since the epoch; null if it is not known. */
  seenAt(peer: string): number | null {
    return this.#gone.get(peer)?.() ?? this.#signAt(this.#peers.get(peer));
  }

  #signAt(peer: LivePeer | undefined): number | null {
    const { clock } = this.#context.deps;
    return peer === undefined ? null : Math.round(clock.now() - (clock.monotonic() - peer.seenAt));
  }

  leave(peer: string): void {
    // A refusal after this departure shows that the peer is back.
    this.#refused.forget(peer);
    this.#drop(peer, 'left');
  }

  /** Forgets a peer that is no longer a member. */
  forget(peer: string): void {
    this.#drop(peer, 'left');
    this.#gone.delete(peer);
    this.#left.delete(peer);
    this.#issued.delete(peer);
    this.#refused.forget(peer);
  }

  /** Receives a sealed heartbeat from the topic `peers`. Returns the verdict on the message for gossipsub. */
  receive(bytes: Uint8Array, sender: string): 'accept' | 'ignore' | 'reject' {
    // Check membership first, because opening the seal and verifying the signature cost more. Anyone can sign any
    // number of heartbeats under new identities.
    if (!this.#isMember(sender)) return 'ignore';
    if (!this.#limiter.take(sender, HEARTBEAT_QUOTA)) return 'ignore';
    try {
      const { author, message } = verifyMessage(
        'heartbeat',
        this.#context.keys.open(bytes, 'heartbeat', sender),
      );
      // Only the author has a reason to send a heartbeat.
      if (author !== sender) return 'ignore';
      return this.#take(author, message) ? 'accept' : 'ignore';
    } catch (error) {
      if (isSwarmError(error)) return 'reject';
      throw error;
    }
  }

  /** Drops peers that have been silent for too long. The caller must call this once per heartbeat interval. */
  dropSilent(): void {
    const oldest = this.#context.deps.clock.monotonic() - PEER_LOST_AFTER_MS;
    for (const [peer, { seenAt }] of this.#peers) {
      if (seenAt < oldest) this.#drop(peer, this.#refused.get(peer) === null ? 'silent' : 'clock');
    }
  }

  #drop(peer: string, reason: Departure): void {
    const known = this.#peers.get(peer);
    if (!known) return;
    this.#peers.delete(peer);
    if (!this.#gone.has(peer)) this.#gone.set(peer, () => this.#signAt(known));
    if (reason === 'left') this.#left.add(peer);
    this.#events.onGone(peer, reason);
  }

  /**
   * Returns the hold of a node whose newest heartbeat names no hold. Returns null if the node's hold ends
   * now; otherwise the node has ended too many holds lately (HOLD_ENDS), and keeps the hold.
   */
  #lastingHold(peer: string): Hold | null {
    const hold = this.#peers.get(peer)?.hold ?? null;
    return hold !== null && this.#holdEnds.take(peer, HOLD_ENDS) ? null : hold;
  }

  /**
   * Processes a heartbeat. Returns false, and changes nothing, if the heartbeat is a replay, if the clock of its author
   * is wrong, or if its author is not a member or has said goodbye.
   */
  #take(author: string, heartbeat: Heartbeat): boolean {
    const { job, deps } = this.#context;
    const now = deps.clock.now();
    const known = this.#peers.get(author);
    if (heartbeat.job !== job || !this.#isMember(author) || this.#left.has(author)) return false;
    const { run, issuedAt } = heartbeat;
    const skewMs = issuedAt - now;
    const isOnTime = Math.abs(skewMs) <= CLOCK_SKEW_MS;
    // After a restart of the coordinator, a heartbeat of an ended process may be replayed. It is no sign of life.
    if (run !== undefined && isOnTime && !this.#events.onRun({ peer: author, run, issuedAt })) return false;
    // A replayed heartbeat must not keep a dead node present, so only a heartbeat with a later time than the last one
    // counts. If the time of the last heartbeat is more than CLOCK_SKEW_MS in the future, our clock was set back after
    // its arrival. In this case, an earlier time does not prove a replay.
    const last = this.#issued.get(author) ?? 0;
    if (heartbeat.issuedAt <= last && last <= now + CLOCK_SKEW_MS) return false;
    if (!isOnTime) {
      deps.log.warn({ peer: author, skewMs, limitMs: CLOCK_SKEW_MS }, 'heartbeat-refused');
      const { name, engine } = heartbeat;
      this.#refused.note(author, { name, engine, hold: clockHold(skewMs) });
      return false;
    }
    this.#refused.forget(author);
    this.#issued.set(author, heartbeat.issuedAt);
    if (heartbeat.known !== undefined) this.#context.noteKnown(author, heartbeat.known);
    if (heartbeat.state === 'leaving') {
      this.leave(author);
      return true;
    }
    const hold = heartbeat.hold ?? this.#lastingHold(author);
    const ready = hold === null && (READY.includes(heartbeat.state) || (known?.ready ?? false));
    const seenAt = deps.clock.monotonic();
    const progressAt = known && !hasProgress(known.heartbeat, heartbeat) ? known.progressAt : seenAt;
    this.#gone.delete(author);
    this.#peers.set(author, { heartbeat, hold, seenAt, progressAt, ready });
    if (!known) this.#events.onPresent(author);
    if (hold?.reason !== known?.hold?.reason) this.#events.onHold(author, hold);
    if (ready && !known?.ready) this.#events.onReady(author);
    if (heartbeat.state === 'awaiting') this.#events.onIdle(author, heartbeat.round);
    return true;
  }
}

/**
 * Returns whether a node made progress between two of its heartbeats. While a node is joining or syncing, a download is
 * progress too. A busy node waits with the work of each new round, so a new round is no progress of the node.
 */
function hasProgress(before: Heartbeat | null, after: Heartbeat): boolean {
  if (before === null) return true;
  const fetches = after.state === 'joining' || after.state === 'syncing';
  return (
    before.state !== after.state ||
    (before.round !== after.round && after.state !== 'busy') ||
    before.step !== after.step ||
    (fetches && after.bytesReceived - before.bytesReceived >= DOWNLOAD_BYTES)
  );
}
