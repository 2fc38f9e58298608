import type { Message } from '@libp2p/gossipsub';
import type { Stream } from '@libp2p/interface';
import type { FairPermits } from '../common/limits/fair-permits.ts';
import type { Logger } from '../common/logger.ts';
import type { Clock } from '../common/time/clock.ts';
import { protocolError } from '../protocol/errors.ts';
import { parseJobTopic } from '../protocol/job/topics.ts';
import { netError } from './errors.ts';
import { GossipMemory } from './gossip-memory.ts';
import { GossipGate } from './libp2p/gossip-gate.ts';
import type { Arrival, GossipRuntime } from './libp2p/gossip-runtime.ts';
import { topicMessageBytes, topicScore } from './libp2p/gossip-service.ts';
import { PulledStream } from './libp2p/pulled-stream.ts';
import type { NetworkMeter } from './meter.ts';
import type { GossipHandler, GossipVerdict, SubscribeOptions } from './network.ts';

interface Subscription {
  readonly handler: GossipHandler;
  readonly admits: (author: string) => boolean;
  readonly forwards: boolean;
}

/**
 * Maximum number of messages that wait for a verdict. Further messages are dropped, so that a flood does not exhaust
 * memory.
 */
const PENDING_VERDICTS = 1024;

interface GossipDeps {
  pubsub: unknown;
  clock: Clock;
  log: Logger;
  meter: NetworkMeter;
  /** Permits for the memory of incomplete RPCs. */
  memory: FairPermits;
  /** Returns the network address of a connected peer. Several peers can have the same address. */
  networkOf(peer: string): string;
  /**
   * Peers that may subscribe to the channels `updates` and `peers`, and so receive the messages that we publish on
   * these channels.
   * @default all peers
   */
  confidants?: readonly string[] | undefined;
}

/** Publishes to gossip topics and subscribes handlers to them. The handlers judge each message that arrives. */
export class Gossip {
  readonly #runtime: GossipRuntime;
  readonly #deps: GossipDeps;
  readonly #gate: GossipGate;
  readonly #memory: GossipMemory;
  readonly #subscriptions = new Map<string, Set<Subscription>>();
  #pending = 0;

  constructor(deps: GossipDeps) {
    this.#runtime = deps.pubsub as GossipRuntime;
    this.#deps = deps;
    this.#memory = new GossipMemory({ permits: deps.memory, clock: deps.clock });
    // A rule replaces the list of allowed topics, because a peer may subscribe to a job's topic before we join the job.
    this.#runtime.allowedTopics = { has: (topic) => topicMessageBytes(topic) !== null };
    this.#runtime.addEventListener('gossipsub:message', (event) => this.#judge(event.detail));
    const createInboundStream = this.#runtime.createInboundStream.bind(this.#runtime);
    this.#runtime.createInboundStream = (peer, stream) =>
      createInboundStream(peer, this.#pulled(peer.toString(), stream as Stream));
    const rules = {
      messageBytes: (topic: string) => (this.#subscriptions.has(topic) ? topicMessageBytes(topic) : null),
      admits: (topic: string, author: string) => this.#admits(this.#subscriptions.get(topic), author),
      maySubscribe: (topic: string, peer: string) => {
        const channel = parseJobTopic(topic)?.channel;
        return channel === 'heads' || (deps.confidants?.includes(peer) ?? true);
      },
      knows: (peer: string) => [...this.#subscriptions.values()].some((set) => this.#admits(set, peer)),
    };
    this.#gate = new GossipGate({ ...deps, runtime: this.#runtime, rules });
  }

  /**
   * Publishes a message. Returns the number of peers that the message was sent to.
   * @throws SwarmError TOPIC_UNKNOWN, MESSAGE_TOO_LARGE
   */
  async publish(topic: string, bytes: Uint8Array): Promise<number> {
    const maxBytes = boundOf(topic);
    if (bytes.byteLength > maxBytes) {
      throw protocolError(
        'MESSAGE_TOO_LARGE',
        `a message of ${bytes.byteLength} bytes exceeds the limit of ${maxBytes} bytes for ${topic}`,
        { topic, bytes: bytes.byteLength, maxBytes },
      );
    }
    // gossipsub counts a message as seen even if it reached no peer, and then refuses to publish it again. A peer's
    // subscription may arrive before the stream to that peer is open. So publish only if the stream to a subscriber is
    // open.
    if (!this.subscribers(topic).some((peer) => this.#runtime.streamsOutbound.has(peer))) return 0;
    const { clock, meter } = this.#deps;
    const start = clock.monotonic();
    // Send heads to all subscribers, also to those outside the gossip mesh. Many nodes know only their
    // coordinator. If such a node were outside the coordinator's mesh, it would learn of a head only at the
    // next heartbeat of gossipsub.
    const channel = parseJobTopic(topic)!.channel;
    const { recipients } = await this.#runtime.publish(topic, bytes, { floodPublish: channel === 'heads' });
    meter.gossipMessage({
      channel,
      direction: 'outbound',
      verdict: 'published',
      bytes: bytes.byteLength,
      seconds: (clock.monotonic() - start) / 1000,
    });
    return recipients.length;
  }

  /** Subscribes a handler. Returns a function that unsubscribes it. @throws SwarmError TOPIC_UNKNOWN */
  subscribe(
    topic: string,
    handler: GossipHandler,
    { admits = () => true, forwards = true }: SubscribeOptions = {},
  ): () => void {
    boundOf(topic);
    const subscription: Subscription = { handler, admits, forwards };
    const all = this.#subscriptions.get(topic) ?? new Set();
    all.add(subscription);
    this.#subscriptions.set(topic, all);
    this.#runtime.score.params.topics[topic] = topicScore;
    this.#runtime.subscribe(topic);
    return () => {
      if (!all.delete(subscription) || all.size > 0) return;
      this.#subscriptions.delete(topic);
      this.#runtime.unsubscribe(topic);
    };
  }

  /**
   * Returns whether gossip flows both ways with a connected peer. libp2p/gossip-watchdog.ts explains how gossip can
   * stop on an open connection.
   */
  flowsWith(peer: string): boolean {
    const outbound = this.#runtime.streamsOutbound.get(peer)?.rawStream;
    const inbound = this.#runtime.streamsInbound.get(peer)?.rawStream;
    return outbound?.writeStatus === 'writable' && inbound?.remoteWriteStatus === 'writable';
  }

  /** Returns the peers known to be subscribed to a topic. */
  subscribers(topic: string): string[] {
    return this.#runtime.getSubscribers(topic).map(String);
  }

  #forwards(topic: string): boolean {
    return [...(this.#subscriptions.get(topic) ?? [])].some(({ forwards }) => forwards);
  }

  #pulled(peer: string, stream: Stream): PulledStream {
    const claimant = { address: this.#deps.networkOf(peer), peer };
    const giveWay = (): void =>
      stream.abort(
        netError(
          'STREAM_CLOSED',
          'messages from other addresses needed the memory that held an incomplete message',
        ),
      );
    return new PulledStream({ stream, memory: this.#memory.of(claimant, giveWay) });
  }

  #admits(subscriptions: ReadonlySet<Subscription> | undefined, author: string): boolean {
    for (const { admits } of subscriptions ?? []) if (admits(author)) return true;
    return false;
  }

  #judge({ propagationSource, msgId, msg }: Arrival): void {
    const { clock, log, meter } = this.#deps;
    const via = propagationSource.toString();
    const start = clock.monotonic();
    this.#verdict(msg, via)
      .catch((error: unknown): GossipVerdict => {
        log.error({ topic: msg.topic, via, error }, 'gossip-handler-failed');
        return 'ignore';
      })
      .then((verdict) => {
        meter.gossipMessage({
          channel: parseJobTopic(msg.topic)?.channel ?? '',
          direction: 'inbound',
          verdict,
          bytes: msg.data.byteLength,
          seconds: (clock.monotonic() - start) / 1000,
        });
        this.#gate.judged(via, verdict);
        // gossipsub forwards every accepted message. `ignore` keeps a message from being forwarded.
        const keeps = verdict === 'accept' && !this.#forwards(msg.topic);
        this.#runtime.reportMessageValidationResult(msgId, via, keeps ? 'ignore' : verdict);
      });
  }

  async #verdict(msg: Message, via: string): Promise<GossipVerdict> {
    const subscriptions = this.#subscriptions.get(msg.topic);
    if (subscriptions === undefined || msg.type !== 'signed') return 'ignore';
    if (this.#pending >= PENDING_VERDICTS) {
      this.#deps.log.warn({ topic: msg.topic, pending: this.#pending }, 'gossip-overloaded');
      return 'ignore';
    }
    this.#deps.meter.gossipQueue(++this.#pending);
    try {
      const message = { from: msg.from.toString(), via, data: msg.data };
      const admitting = [...subscriptions].filter(({ admits }) => admits(message.from));
      return combine(await Promise.all(admitting.map(({ handler }) => handler(message))));
    } finally {
      this.#deps.meter.gossipQueue(--this.#pending);
    }
  }
}

function combine(verdicts: readonly GossipVerdict[]): GossipVerdict {
  if (verdicts.includes('reject')) return 'reject';
  return verdicts.includes('accept') ? 'accept' : 'ignore';
}

function boundOf(topic: string): number {
  const maxBytes = topicMessageBytes(topic);
  if (maxBytes === null) {
    throw netError('TOPIC_UNKNOWN', `"${topic}" is not a known topic`, { topic });
  }
  return maxBytes;
}
