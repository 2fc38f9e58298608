import { createHash } from 'node:crypto';
import { type GossipsubOpts, gossipsub, type Message } from '@libp2p/gossipsub';
import type { PeerScoreParams, TopicScoreParams } from '@libp2p/gossipsub/score';
import type { PeerId, Stream } from '@libp2p/interface';
import type { Clock } from '../common/clock.ts';
import type { Logger } from '../common/logger.ts';
import { protocolError } from '../protocol/errors.ts';
import {
  GOSSIP_RPC_BYTES,
  GOSSIP_SEND_BUFFER_BYTES,
  HEARTBEAT_INTERVAL_MS,
  JOBS_PER_COORDINATOR,
  ROUND_PEERS,
} from '../protocol/limits.ts';
import { type MessageKind, messageBytes } from '../protocol/messages.ts';
import { type JobChannel, jobChannels, parseJobTopic } from '../protocol/topics.ts';
import { netError } from './errors.ts';
import type { GossipHandler, GossipVerdict } from './network.ts';
import type { NetworkObserver } from './observer.ts';

/**
 * The members of `@libp2p/gossipsub` 17.1.1 that its published type leaves out and that {@link Gossip} uses. Exporting the
 * class `GossipSub` upstream would replace this interface.
 */
interface GossipRuntime {
  publish(
    topic: string,
    data: Uint8Array,
    options: { floodPublish: boolean },
  ): Promise<{ recipients: readonly PeerId[] }>;
  subscribe(topic: string): void;
  unsubscribe(topic: string): void;
  getSubscribers(topic: string): readonly PeerId[];
  reportMessageValidationResult(messageId: string, from: string, verdict: GossipVerdict): void;
  readonly streamsOutbound: ReadonlyMap<string, { readonly rawStream: Stream }>;
  readonly streamsInbound: ReadonlyMap<string, { readonly rawStream: Stream }>;
  /** Consulted before gossipsub stores anything about a topic. */
  allowedTopics: { has(topic: string): boolean } | null;
  readonly score: { readonly params: { readonly topics: Record<string, TopicScoreParams> } };
  addEventListener(type: 'gossipsub:message', listener: (event: CustomEvent<Arrival>) => void): void;
}

interface Arrival {
  propagationSource: PeerId;
  msgId: string;
  msg: Message;
}

const HEARTBEAT_MS = 1000;
/** Gossip heartbeats for which a message can still be forwarded, so the longest time for a verdict. */
const CACHED_HEARTBEATS = 12;
/** Heartbeats whose messages are offered to some peers outside the mesh. */
const OFFERED_HEARTBEATS = 6;
/** Time for which a message is recognised as a duplicate. Later replays are refused because of the round that they name. */
const SEEN_MS = 120_000;
/** Time to deliver a requested message. The default of 3 s penalises honest peers whose event loop stalls (Lodestar). */
const IWANT_FOLLOW_UP_MS = 12_000;
/** Smallest message announced with IDONTWANT; for smaller ones the announcement costs more than a duplicate. */
const IDONTWANT_FROM_BYTES = 16 * 1024;
/** Time until a pruned peer may join the mesh again. The default of 60 s is longer than a restart. */
const PRUNE_BACKOFF_MS = 15_000;
const UNSUBSCRIBE_BACKOFF_MS = 2_000;
const GRAFT_FLOOD_MS = 5_000;
/** Topics of one peer: all channels of all jobs of a coordinator. */
const TOPICS_PER_PEER = JOBS_PER_COORDINATOR * jobChannels.length;
/** gossipsub accounts for the length of each topic of a peer, and this many bytes. */
const TOPIC_OVERHEAD_BYTES = 1024;
const TOPIC_BYTES = 128;
/** Message ids in one IHAVE: twice the heartbeats of the nodes of a full round over the offered time. */
const OFFERED_MESSAGES =
  2 * Math.ceil((ROUND_PEERS * OFFERED_HEARTBEATS * HEARTBEAT_MS) / HEARTBEAT_INTERVAL_MS);
/** Messages that wait for a verdict. Further ones are dropped, so that a flood does not exhaust memory. */
const PENDING_VERDICTS = 1024;
/** Space for the signed envelope around the body of a message. */
const ENVELOPE_BYTES = 1024;
/** Peers behind one address, such as a lab, before they are penalised as one attacker. */
const PEERS_PER_ADDRESS = 64;
/** Rejected messages weigh by the square of their count: after nine within the half-life a peer is ignored. */
const REJECT_WEIGHT = -1;
const REJECT_HALF_LIFE_MS = 10 * 60_000;
/** Tolerated breaches of the mesh rules, as restarts and stalls cause them. */
const FORGIVEN_BREACHES = 6;

interface GossipDeps {
  pubsub: unknown;
  clock: Clock;
  log: Logger;
  observer: NetworkObserver;
}

const channelKind: Record<JobChannel, MessageKind> = { heads: 'head', updates: 'update', peers: 'heartbeat' };

/** Returns the greatest message size of a topic in bytes; null for a foreign topic. */
export function topicMessageBytes(topic: string): number | null {
  const parsed = parseJobTopic(topic);
  return parsed === null ? null : messageBytes[channelKind[parsed.channel]] + ENVELOPE_BYTES;
}

/**
 * Computes the message id from author, topic and content, so that repeated content is not forwarded again. Without the
 * author, a peer could send another's bytes under its own name first, and the real message would count as a duplicate.
 */
function messageId(message: Message): Uint8Array {
  const from = message.type === 'signed' ? message.from.toMultihash().bytes : new Uint8Array();
  return createHash('sha256')
    .update(`lora-swarm/gossip\0${message.topic}\0`)
    .update(from)
    .update(message.data)
    .digest()
    .subarray(0, 20);
}

/** Only rejected messages count. Our topics are too quiet for positive scores or delivery quotas. */
const topicScore: TopicScoreParams = {
  topicWeight: 1,
  timeInMeshWeight: 0,
  timeInMeshQuantum: 1000,
  timeInMeshCap: 1,
  firstMessageDeliveriesWeight: 0,
  firstMessageDeliveriesDecay: 0.5,
  firstMessageDeliveriesCap: 1,
  meshMessageDeliveriesWeight: 0,
  meshMessageDeliveriesDecay: 0.5,
  meshMessageDeliveriesCap: 1,
  meshMessageDeliveriesThreshold: 1,
  meshMessageDeliveriesWindow: 10,
  meshMessageDeliveriesActivation: 5000,
  meshFailurePenaltyWeight: 0,
  meshFailurePenaltyDecay: 0.5,
  invalidMessageDeliveriesWeight: REJECT_WEIGHT,
  // Scores decay once per second; this factor halves them over the half-life.
  invalidMessageDeliveriesDecay: 0.5 ** (1000 / REJECT_HALF_LIFE_MS),
};

const peerScore: Partial<PeerScoreParams> = {
  IPColocationFactorThreshold: PEERS_PER_ADDRESS,
  // A local swarm shares one address. The default limit of 10 silently mutes it from the twelfth node on.
  IPColocationFactorWhitelist: new Set(['127.0.0.1', '::1']),
  behaviourPenaltyThreshold: FORGIVEN_BREACHES,
};

/** Creates the gossipsub service with every limit set. */
export function gossipService(): ReturnType<typeof gossipsub> {
  const options: Partial<GossipsubOpts> = {
    globalSignaturePolicy: 'StrictSign',
    msgIdFn: messageId,
    asyncValidation: true,
    awaitRpcHandler: true,
    awaitRpcMessageHandler: true,
    floodPublish: false,
    batchPublish: true,
    fallbackToFloodsub: false,
    allowPublishToZeroTopicPeers: true,
    ignoreDuplicatePublishError: true,
    emitSelf: false,
    doPX: false,
    runOnLimitedConnection: false,
    // Updates have few subscribers, and heads are flooded by their author: a sparse mesh saves copies of both.
    D: 6,
    Dlo: 4,
    Dhi: 8,
    Dscore: 4,
    Dout: 2,
    Dlazy: 6,
    heartbeatInterval: HEARTBEAT_MS,
    mcacheLength: CACHED_HEARTBEATS,
    mcacheGossip: OFFERED_HEARTBEATS,
    seenTTL: SEEN_MS,
    gossipsubIWantFollowupMs: IWANT_FOLLOW_UP_MS,
    idontwantMinDataSize: IDONTWANT_FROM_BYTES,
    pruneBackoff: PRUNE_BACKOFF_MS,
    unsubcribeBackoff: UNSUBSCRIBE_BACKOFF_MS,
    graftFloodThreshold: GRAFT_FLOOD_MS,
    maxInboundDataLength: GOSSIP_RPC_BYTES,
    maxOutboundBufferSize: GOSSIP_SEND_BUFFER_BYTES,
    maxInboundStreams: 2,
    maxOutboundStreams: 2,
    maxTopicBytesPerPeer: TOPICS_PER_PEER * (TOPIC_OVERHEAD_BYTES + TOPIC_BYTES),
    decodeRpcLimits: {
      maxSubscriptions: TOPICS_PER_PEER,
      // An honest peer answers an IWANT with all requested messages in one RPC, which has its own limit in bytes.
      maxMessages: OFFERED_MESSAGES,
      maxIhaveMessageIDs: OFFERED_MESSAGES,
      maxIwantMessageIDs: OFFERED_MESSAGES,
      maxIdontwantMessageIDs: 512,
      maxControlMessages: TOPICS_PER_PEER,
      maxPeerInfos: 16,
    },
    scoreParams: peerScore,
  };
  return gossipsub(options);
}

/** Gossip topics whose messages are judged by handlers. */
export class Gossip {
  readonly #runtime: GossipRuntime;
  readonly #deps: GossipDeps;
  readonly #handlers = new Map<string, Set<GossipHandler>>();
  #pending = 0;

  constructor(deps: GossipDeps) {
    this.#runtime = deps.pubsub as GossipRuntime;
    this.#deps = deps;
    // A rule instead of a list: a peer may subscribe to a job's topic before we join the job.
    this.#runtime.allowedTopics = { has: (topic) => topicMessageBytes(topic) !== null };
    this.#runtime.addEventListener('gossipsub:message', (event) => this.#judge(event.detail));
  }

  /** Publishes a message. Returns the number of peers that it was sent to. @throws SwarmError TOPIC_UNKNOWN, MESSAGE_TOO_LARGE */
  async publish(topic: string, bytes: Uint8Array): Promise<number> {
    const maxBytes = boundOf(topic);
    if (bytes.byteLength > maxBytes) {
      throw protocolError(
        'MESSAGE_TOO_LARGE',
        `a message of ${bytes.byteLength} bytes exceeds the ${maxBytes} of ${topic}`,
        { topic, bytes: bytes.byteLength, maxBytes },
      );
    }
    // Published without subscribers, a message would count as seen and could not be published again later.
    if (this.#runtime.getSubscribers(topic).length === 0) return 0;
    const { clock, observer } = this.#deps;
    const start = clock.monotonic();
    // Nodes often know only their coordinator, so its heads must not wait for gossip's next heartbeats.
    const channel = parseJobTopic(topic)!.channel;
    const { recipients } = await this.#runtime.publish(topic, bytes, { floodPublish: channel === 'heads' });
    observer.gossipMessage({
      channel,
      direction: 'outbound',
      verdict: 'published',
      bytes: bytes.byteLength,
      seconds: (clock.monotonic() - start) / 1000,
    });
    return recipients.length;
  }

  /** Subscribes a handler. Returns a function that unsubscribes it. @throws SwarmError TOPIC_UNKNOWN */
  subscribe(topic: string, handler: GossipHandler): () => void {
    boundOf(topic);
    const handlers = this.#handlers.get(topic) ?? new Set();
    handlers.add(handler);
    this.#handlers.set(topic, handlers);
    this.#runtime.score.params.topics[topic] = topicScore;
    this.#runtime.subscribe(topic);
    return () => {
      if (!handlers.delete(handler) || handlers.size > 0) return;
      this.#handlers.delete(topic);
      this.#runtime.unsubscribe(topic);
    };
  }

  /** Whether gossip flows both ways with a connected peer; see libp2p/gossip-watchdog.ts for why it may not. */
  flowsWith(peer: string): boolean {
    const outbound = this.#runtime.streamsOutbound.get(peer)?.rawStream;
    const inbound = this.#runtime.streamsInbound.get(peer)?.rawStream;
    return outbound?.writeStatus === 'writable' && inbound?.remoteWriteStatus === 'writable';
  }

  /** Peers known to be subscribed to a topic. */
  subscribers(topic: string): string[] {
    return this.#runtime.getSubscribers(topic).map(String);
  }

  #judge({ propagationSource, msgId, msg }: Arrival): void {
    const { clock, log, observer } = this.#deps;
    const via = propagationSource.toString();
    const start = clock.monotonic();
    this.#verdict(msg, via)
      .catch((error: unknown): GossipVerdict => {
        log.error({ topic: msg.topic, via, error }, 'gossip-handler-failed');
        return 'ignore';
      })
      .then((verdict) => {
        observer.gossipMessage({
          channel: parseJobTopic(msg.topic)?.channel ?? '',
          direction: 'inbound',
          verdict,
          bytes: msg.data.byteLength,
          seconds: (clock.monotonic() - start) / 1000,
        });
        this.#runtime.reportMessageValidationResult(msgId, via, verdict);
      });
  }

  async #verdict(msg: Message, via: string): Promise<GossipVerdict> {
    const handlers = this.#handlers.get(msg.topic);
    if (handlers === undefined) return 'ignore';
    if (msg.type !== 'signed' || msg.from.type !== 'Ed25519') return 'reject';
    if (msg.data.byteLength > boundOf(msg.topic)) return 'reject';
    if (this.#pending >= PENDING_VERDICTS) {
      this.#deps.log.warn({ topic: msg.topic, pending: this.#pending }, 'gossip-overloaded');
      return 'ignore';
    }
    this.#deps.observer.gossipQueue(++this.#pending);
    try {
      const message = { from: msg.from.toString(), via, data: msg.data };
      return combine(await Promise.all([...handlers].map((handler) => handler(message))));
    } finally {
      this.#deps.observer.gossipQueue(--this.#pending);
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
