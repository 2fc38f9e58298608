import { createHash } from 'node:crypto';
import { type GossipsubOpts, gossipsub, type Message } from '@libp2p/gossipsub';
import type { PeerScoreParams, TopicScoreParams } from '@libp2p/gossipsub/score';
import type { PeerId, Stream } from '@libp2p/interface';
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

/**
 * What the gossipsub object can do at run time. Its published type leaves most of this out; this is the one place
 * that says so, and `Gossip` the one that relies on it.
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
  /** Asked before anything about a topic is kept. */
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
/** Gossip heartbeats for which a message can still be forwarded: the longest that a verdict may take. */
const CACHED_HEARTBEATS = 12;
/** Heartbeats whose messages are offered to some of the peers outside of the mesh: those few miss must be rare. */
const OFFERED_HEARTBEATS = 6;
/** How long a message is known as a duplicate. Replays in later rounds are refused by what they say, not here. */
const SEEN_MS = 120_000;
/** Asked-for messages may be late when a peer's event loop stalls; gossipsub's 3 s blamed honest peers (Lodestar). */
const IWANT_FOLLOW_UP_MS = 12_000;
/** From this size on a peer is told not to send what is already here; below, saying so costs more than it saves. */
const IDONTWANT_FROM_BYTES = 16 * 1024;
/** A peer that left a mesh and comes back is let in again after this long; gossipsub's 60 s outlasts a restart. */
const PRUNE_BACKOFF_MS = 15_000;
const UNSUBSCRIBE_BACKOFF_MS = 2_000;
const GRAFT_FLOOD_MS = 5_000;
/** Topics that one peer can sensibly be in: all channels of all jobs of a coordinator. */
const TOPICS_PER_PEER = JOBS_PER_COORDINATOR * jobChannels.length;
/** gossipsub charges each topic of a peer its length and this much. */
const TOPIC_OVERHEAD_BYTES = 1024;
const TOPIC_BYTES = 128;
/** Message ids in one offer: the heartbeats of a full round's nodes over the offered time, twice. */
const OFFERED_MESSAGES =
  2 * Math.ceil((ROUND_PEERS * OFFERED_HEARTBEATS * HEARTBEAT_MS) / HEARTBEAT_INTERVAL_MS);
/** Messages whose verdict is still out; more are dropped unjudged, or a flood would fill the memory. */
const PENDING_VERDICTS = 1024;
/** Room for the signed envelope around a message's body. */
const ENVELOPE_BYTES = 1024;
/** A lab or a household may hold this many peers behind one address before it begins to look like one attacker. */
const PEERS_PER_ADDRESS = 64;
/** Rejected messages weigh by the square of their count: nine within the half-life and a peer is no longer heard. */
const REJECT_WEIGHT = -1;
const REJECT_HALF_LIFE_MS = 10 * 60_000;
/** Breaches of the mesh's rules that restarts and stalls explain. */
const FORGIVEN_BREACHES = 6;

const channelKind: Record<JobChannel, MessageKind> = { heads: 'head', updates: 'update', peers: 'heartbeat' };

/** Greatest message of a topic in bytes; null for topics that are none of ours. */
export function topicMessageBytes(topic: string): number | null {
  const parsed = parseJobTopic(topic);
  return parsed === null ? null : messageBytes[channelKind[parsed.channel]] + ENVELOPE_BYTES;
}

/**
 * An identity from author, topic and content, so that the same words said again are not passed on again. Without the
 * author a peer could sign another's bytes first and have the real message taken for a duplicate.
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

/** No positive scores and no quota of deliveries (our topics are too quiet for either): only rejects count. */
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
  // Scores decay once per second: this is the factor that halves them over the half-life.
  invalidMessageDeliveriesDecay: 0.5 ** (1000 / REJECT_HALF_LIFE_MS),
};

const peerScore: Partial<PeerScoreParams> = {
  IPColocationFactorThreshold: PEERS_PER_ADDRESS,
  // Local swarms are one address; gossipsub's limit of 10 silently mutes them from the twelfth node on.
  IPColocationFactorWhitelist: new Set(['127.0.0.1', '::1']),
  behaviourPenaltyThreshold: FORGIVEN_BREACHES,
};

/** The gossipsub service, every limit of it set. */
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
    // Updates reach few subscribers, heads are flooded by their author: a sparse mesh saves copies of both.
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
      // An honest peer answers all that it was asked for in one piece; the piece has its own limit in bytes.
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

/** Topics with verdicts over the gossipsub service. */
export class Gossip {
  readonly #runtime: GossipRuntime;
  readonly #log: Logger;
  readonly #handlers = new Map<string, Set<GossipHandler>>();
  #pending = 0;

  constructor(deps: { pubsub: unknown; log: Logger }) {
    this.#runtime = deps.pubsub as GossipRuntime;
    this.#log = deps.log;
    // A rule instead of a list: jobs come and go, and a peer may name a job's topic before we take part in it.
    this.#runtime.allowedTopics = { has: (topic) => topicMessageBytes(topic) !== null };
    this.#runtime.addEventListener('gossipsub:message', (event) => this.#judge(event.detail));
  }

  /** @throws SwarmError TOPIC_UNKNOWN, MESSAGE_TOO_LARGE */
  async publish(topic: string, bytes: Uint8Array): Promise<number> {
    const maxBytes = boundOf(topic);
    if (bytes.byteLength > maxBytes) {
      throw protocolError(
        'MESSAGE_TOO_LARGE',
        `${bytes.byteLength} bytes exceed the ${maxBytes} of ${topic}`,
        {
          topic,
          bytes: bytes.byteLength,
          maxBytes,
        },
      );
    }
    // Published to nobody, a message would count as seen and could not be published again when somebody is there.
    if (this.#runtime.getSubscribers(topic).length === 0) return 0;
    // Nodes often know only their coordinator. Its word must not wait for gossip's next heartbeat to reach them all.
    const floodPublish = parseJobTopic(topic)?.channel === 'heads';
    const { recipients } = await this.#runtime.publish(topic, bytes, { floodPublish });
    return recipients.length;
  }

  /** @throws SwarmError TOPIC_UNKNOWN */
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

  /** Whether gossip flows both ways with a connected peer; see watchdog.ts for why it may not. */
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
    const via = propagationSource.toString();
    this.#verdict(msg, via)
      .catch((error: unknown): GossipVerdict => {
        this.#log.error({ topic: msg.topic, via, error }, 'gossip.handler_failed');
        return 'ignore';
      })
      .then((verdict) => this.#runtime.reportMessageValidationResult(msgId, via, verdict));
  }

  async #verdict(msg: Message, via: string): Promise<GossipVerdict> {
    const handlers = this.#handlers.get(msg.topic);
    if (handlers === undefined) return 'ignore';
    if (msg.type !== 'signed' || msg.from.type !== 'Ed25519') return 'reject';
    if (msg.data.byteLength > boundOf(msg.topic)) return 'reject';
    if (this.#pending >= PENDING_VERDICTS) {
      this.#log.warn({ topic: msg.topic, pending: this.#pending }, 'gossip.overloaded');
      return 'ignore';
    }
    this.#pending++;
    try {
      const message = { from: msg.from.toString(), via, data: msg.data };
      return combine(await Promise.all([...handlers].map((handler) => handler(message))));
    } finally {
      this.#pending--;
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
    throw netError('TOPIC_UNKNOWN', `"${topic}" is not a topic of protocol/topics.ts`, { topic });
  }
  return maxBytes;
}
