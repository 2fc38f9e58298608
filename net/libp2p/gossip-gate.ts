/**
 * Drops unwanted gossip messages before gossipsub verifies their signatures. Written for `@libp2p/gossipsub` 17.1.1, which
 * has no hook that runs earlier. If gossipsub asked a function of its user before it verifies a message, this file would
 * not have to replace the method `handleReceivedRpc`.
 */

import { createHash } from 'node:crypto';
import type { RPC } from '@libp2p/gossipsub/message';
import type { PeerId } from '@libp2p/interface';
import { FairTurns, type TurnClaim } from '../../common/limits/fair-turns.ts';
import { type Quota, RateLimiter } from '../../common/limits/rate-limiter.ts';
import type { Clock } from '../../common/time/clock.ts';
import { peerIdOfMultihash } from '../../protocol/ids.ts';
import { HEARTBEAT_INTERVAL_MS, ROUND_PEERS } from '../../protocol/limits.ts';
import type { GossipDrop, NetworkMeter } from '../meter.ts';
import type { GatedRuntime } from './gossip-runtime.ts';

/**
 * Maximum rate at which one peer may pass us messages of admitted authors. In a full round, a peer passes on one
 * heartbeat of each node per heartbeat interval. The limit is twice that number, because a node also sends a heartbeat
 * whenever its state changes.
 */
export const HANDED_OVER: Quota = { calls: 2 * ROUND_PEERS, perMs: HEARTBEAT_INTERVAL_MS };
/**
 * Maximum rate at which one peer may pass us unwanted messages before its stream is slowed down. A gossipsub RPC
 * without a wanted message counts as one unwanted message, and so does a subscription. An honest peer also passes on
 * unwanted messages: a node that is no longer a member of the job, and does not know this yet, still sends five
 * heartbeats in 10 s. The limit is enough for fifty such nodes.
 */
export const UNWANTED: Quota = { calls: 256, perMs: 10_000 };
/**
 * Number of unwanted messages of one peer that are checked before another peer has its turn. Checking a message takes
 * about 10 µs, so a turn takes about a millisecond.
 */
const UNWANTED_PER_TURN = 128;
/**
 * Time during which turns of different peers may follow each other directly. After that, the event loop handles other
 * work before the next turn.
 */
const SLICE_MS = 8;
/**
 * Pause for each unwanted message above the quota, in milliseconds. Peers that exceed the quota pause one after another,
 * so at most 2,000 such messages of all peers are read per second. Reading them takes less than a tenth of a processor
 * core.
 */
const FLOOD_PAUSE_MS = 0.5;
/**
 * One pause of a peer is for at most this number of its unwanted messages, and lasts at most 50 ms. Peers above the
 * quota pause in turns. Without this limit, a peer that sends thousands of messages in one RPC would delay the other
 * peers above the quota for seconds.
 */
const PAUSED_AT_ONCE = 100;
/** Half-life of the counts from which the soft score is computed. A flood is forgiven within minutes. */
const SCORE_HALF_LIFE_MS = 10_000;
/**
 * Number of unwanted messages that never lower the score of a peer. The quota UNWANTED allows the same number in 10 s.
 */
const FORGIVEN_UNWANTED = UNWANTED.calls;
/**
 * For each accepted message of a peer, this many of its unwanted messages do not lower its score. An honest
 * relay with hostile neighbours therefore keeps its score.
 */
const UNWANTED_PER_ACCEPTED = 4;
/** Number of unwanted messages beyond FORGIVEN_UNWANTED that lowers a peer's soft score by 1. */
const UNWANTED_PER_POINT = 64;
/**
 * Lowest soft score. If a score is below −10, gossipsub offers the peer no messages and answers none of its offers.
 * Below −80, gossipsub would ignore everything that the peer sends. A flood alone must not cause that, so the soft
 * score stays above −80.
 */
export const LOWEST_SOFT_SCORE = -40;
/**
 * Maximum number of peers whose unwanted and accepted messages the gate counts. If there are more peers, the gate
 * forgets the counts of peers without a connection.
 */
const COUNTED_PEERS = 4096;

export interface GossipGateDeps {
  readonly runtime: GatedRuntime;
  readonly rules: GateRules;
  readonly clock: Clock;
  readonly meter: NetworkMeter;
  /** Returns the network address of a connected peer. Several peers can have the same address. */
  networkOf(peer: string): string;
}

/** Facts about topics and peers that decide which messages the gate drops. */
export interface GateRules {
  /** Returns the maximum size of a topic's messages in bytes, or null if we do not subscribe to the topic. */
  messageBytes(topic: string): number | null;
  /** Returns whether a handler of the topic wants messages of an author. */
  admits(topic: string, author: string): boolean;
  /** Returns whether a peer may subscribe to a topic. A subscriber receives the messages that we publish on it. */
  maySubscribe(topic: string, peer: string): boolean;
  /** Returns whether a peer may itself publish to any topic that we subscribe to. */
  knows(peer: string): boolean;
}

/**
 * Checks each gossip message before gossipsub verifies its signature. Verifying costs a hundred times as much as this
 * check, and anyone can sign any number of messages under new identities. If no handler admits the author of a message,
 * the message is dropped here, and counts as unwanted for the peer that passed it to us. gossipsub verifies the
 * remaining messages in turns, which addresses and peers get in fair order. Between turns, the event loop handles other
 * work.
 */
export class GossipGate {
  readonly #runtime: GatedRuntime;
  readonly #rules: GateRules;
  readonly #meter: NetworkMeter;
  readonly #clock: Clock;
  readonly #networkOf: (peer: string) => string;
  readonly #handle: GatedRuntime['handleReceivedRpc'];
  readonly #turns: FairTurns;
  /**
   * Queue of the peers that exceed the quota of unwanted messages. A peer whose turn has come pauses before
   * its next messages are read.
   */
  readonly #floods: FairTurns;
  /** Number of RPCs that have arrived. */
  #received = 0;
  readonly #handedOver: RateLimiter;
  readonly #unwanted: RateLimiter;
  readonly #counts = new Map<string, { unwanted: number; accepted: number; at: number }>();

  constructor(deps: GossipGateDeps) {
    const { runtime, rules, clock, meter } = deps;
    this.#runtime = runtime;
    this.#rules = rules;
    this.#clock = clock;
    this.#networkOf = deps.networkOf;
    this.#meter = meter;
    this.#turns = new FairTurns({ sliceMs: SLICE_MS }, { clock });
    this.#floods = new FairTurns({ sliceMs: Infinity }, { clock });
    this.#handedOver = new RateLimiter({ clock });
    this.#unwanted = new RateLimiter({ clock });
    this.#handle = runtime.handleReceivedRpc.bind(runtime);
    runtime.handleReceivedRpc = (from, rpc) => this.#receive(from, rpc);
    runtime.score.params.appSpecificScore = (peer) => this.softScore(peer);
  }

  /**
   * Counts a message that a handler accepted or ignored, for the soft score of the peer `via`, which passed it to us. A
   * rejected message is not counted here, because gossipsub counts it in its topic score.
   */
  judged(via: string, verdict: 'accept' | 'ignore' | 'reject'): void {
    if (verdict === 'accept') this.#countsOf(via).accepted++;
    if (verdict === 'ignore') this.#countsOf(via).unwanted++;
  }

  /**
   * Returns the soft score of a peer, which gossipsub adds to its own score of the peer. The soft score falls with the
   * unwanted messages that the peer has passed to us lately. 0 is the best score.
   */
  softScore(peer: string): number {
    const counts = this.#counts.get(peer);
    if (counts === undefined) return 0;
    const { unwanted, accepted } = this.#decayed(counts);
    const excess = unwanted - FORGIVEN_UNWANTED - UNWANTED_PER_ACCEPTED * accepted;
    return Math.max(LOWEST_SOFT_SCORE, -Math.max(0, excess) / UNWANTED_PER_POINT);
  }

  /**
   * Handles an RPC: first its subscriptions, then its messages one by one, then its control messages. gossipsub reads
   * the next RPC from the stream only when this method has resolved.
   */
  async #receive(from: PeerId, { messages, control, ...rest }: RPC): Promise<void> {
    const via = from.toString();
    // `FairTurns` keeps one waiting claim for each name, and a second claim under this name replaces the first. Several
    // streams of a peer can have a waiting RPC at the same time. Each RPC therefore claims its turns under its own
    // name. Otherwise, the later RPC would replace the earlier one, which would never be handled.
    const peer = `${via} ${this.#received++}`;
    const claim = { address: this.#networkOf(via), peer, known: this.#rules.knows(via) };
    let end = await this.#turns.take(claim);
    if (end === null) return;
    const dropped = new Map<GossipDrop, number>();
    let unwanted = 0;
    try {
      if (rest.subscriptions.length > 0) {
        const subscriptions = rest.subscriptions.filter((one) => this.#mayHear(via, one));
        await this.#handle(from, { ...rest, subscriptions, messages: [] });
      }
      for (const message of messages) {
        const reason = this.#runtime.acceptFrom(via) ? this.#reasonToDrop(via, message) : 'low-score';
        if (reason === null) await this.#handle(from, { subscriptions: [], messages: [message] });
        else dropped.set(reason, (dropped.get(reason) ?? 0) + 1);
        if (reason !== null && ++unwanted % UNWANTED_PER_TURN !== 0) continue;
        end();
        end = await this.#turns.take(claim);
        if (end === null) return;
      }
    } finally {
      end?.();
      for (const [reason, count] of dropped) this.#meter.gossipDropped(reason, count);
    }
    // gossipsub itself limits control messages, and waits while it handles some of them. This call comes
    // after the end of the turn, so that other peers do not wait too.
    if (control !== undefined) await this.#handle(from, { subscriptions: [], messages: [], control });
    this.#countsOf(via).unwanted += unwanted;
    // RPCs without a wanted message count as unwanted messages, and so do subscriptions, because both cost time. An
    // honest peer sends only a few such RPCs per second, and sends its subscriptions once.
    const idle = (unwanted === messages.length ? 1 : 0) + rest.subscriptions.length;
    await this.#slowDown(via, unwanted + idle, claim);
  }

  #mayHear(via: string, { topic, subscribe }: RPC.SubOpts): boolean {
    return subscribe !== true || this.#rules.maySubscribe(topic ?? '', via);
  }

  /** Returns the reason to drop a message without verifying it, or null if gossipsub must verify it. */
  #reasonToDrop(via: string, message: RPC.Message): GossipDrop | null {
    const { topic, from, data } = message;
    const maxBytes = this.#rules.messageBytes(topic);
    if (maxBytes === null) return this.#unasked(message, 'not-subscribed');
    const author = from === undefined ? null : peerIdOfMultihash(from);
    if (author === null || (data?.byteLength ?? 0) > maxBytes) {
      this.#runtime.score.rejectInvalidMessage(via, topic);
      return author === null ? 'malformed' : 'too-large';
    }
    if (!this.#rules.admits(topic, author)) return this.#unasked(message, 'not-admitted');
    return this.#handedOver.take(via, HANDED_OVER) ? null : this.#unasked(message, 'too-many');
  }

  /**
   * Tells gossipsub that a message has arrived. gossipsub may have requested it, and would otherwise lower the score of
   * the peer for not delivering it.
   */
  #unasked(message: RPC.Message, reason: GossipDrop): GossipDrop {
    const { gossipTracer, msgIdToStrFn } = this.#runtime;
    if (gossipTracer.size > 0) gossipTracer.deliverMessage(msgIdToStrFn(contentId(message)));
    return reason;
  }

  /**
   * Subtracts unwanted messages from the quota of the peer that passed them to us. Pauses the peer's stream
   * if the messages exceed the quota.
   */
  async #slowDown(via: string, unwanted: number, claim: TurnClaim): Promise<void> {
    let excess = 0;
    for (let i = 0; i < unwanted; i++) if (!this.#unwanted.take(via, UNWANTED)) excess++;
    for (let left = excess; left > 0; left -= PAUSED_AT_ONCE) {
      const end = await this.#floods.take(claim);
      const ms = Math.min(left, PAUSED_AT_ONCE) * FLOOD_PAUSE_MS;
      await new Promise<void>((resolve) => this.#clock.after(ms, resolve));
      end?.();
    }
  }

  #countsOf(peer: string): { unwanted: number; accepted: number; at: number } {
    const known = this.#counts.get(peer);
    const counts =
      known === undefined ? { unwanted: 0, accepted: 0, at: this.#clock.monotonic() } : this.#decayed(known);
    this.#counts.set(peer, counts);
    if (this.#counts.size > COUNTED_PEERS) {
      for (const other of this.#counts.keys())
        if (!this.#runtime.peers.has(other)) this.#counts.delete(other);
    }
    return counts;
  }

  #decayed({ unwanted, accepted, at }: { unwanted: number; accepted: number; at: number }) {
    const now = this.#clock.monotonic();
    const left = 0.5 ** ((now - at) / SCORE_HALF_LIFE_MS);
    return { unwanted: unwanted * left, accepted: accepted * left, at: now };
  }
}

/**
 * Computes the message id from author, topic and content, so that repeated content is not forwarded again. Without the
 * author in the id, a peer could send another author's bytes first under its own name, and the real message would count
 * as a duplicate.
 */
export function contentId({ topic, from, data }: Pick<RPC.Message, 'topic' | 'from' | 'data'>): Uint8Array {
  return createHash('sha256')
    .update(`lora-swarm/gossip\0${topic}\0`)
    .update(from ?? new Uint8Array())
    .update(data ?? new Uint8Array())
    .digest()
    .subarray(0, 20);
}
