import { type GossipsubOpts, gossipsub, type Message } from '@libp2p/gossipsub';
import type { PeerScoreParams, TopicScoreParams } from '@libp2p/gossipsub/score';
import { type JobChannel, jobChannels, parseJobTopic } from '../../protocol/job/topics.ts';
import {
  GOSSIP_RPC_BYTES,
  GOSSIP_SEND_BUFFER_BYTES,
  HEARTBEAT_INTERVAL_MS,
  JOBS_PER_COORDINATOR,
  ROUND_PEERS,
} from '../../protocol/limits.ts';
import { type MessageKind, messageBytes } from '../../protocol/messages.ts';
import { contentId } from './gossip-gate.ts';

const HEARTBEAT_MS = 1000;
/**
 * Number of gossip heartbeats during which a message can still be forwarded. The verdict on the message must come
 * within this time.
 */
const CACHED_HEARTBEATS = 12;
/** Number of gossip heartbeats during which a message is offered to some peers outside the mesh. */
const OFFERED_HEARTBEATS = 6;
/** Time for which a message is recognised as a duplicate. Later replays are refused because they name an old round. */
const SEEN_MS = 120_000;
/**
 * Time within which a peer must deliver a message that was requested from it; otherwise gossipsub penalises
 * the peer. The default of 3 s is too short: in Lodestar, an Ethereum client with the same library, it led to
 * penalties for honest peers that had stalled.
 */
const IWANT_FOLLOW_UP_MS = 12_000;
/** Minimum size of messages announced with IDONTWANT. For a smaller message, announcing costs more than a duplicate. */
const IDONTWANT_FROM_BYTES = 16 * 1024;
/**
 * Time until a pruned peer may join the mesh again. The default of 60 s would keep a restarted peer out for longer than
 * its restart takes.
 */
const PRUNE_BACKOFF_MS = 15_000;
const UNSUBSCRIBE_BACKOFF_MS = 2_000;
const GRAFT_FLOOD_MS = 5_000;
/** Maximum number of topics of one peer: all channels of all jobs of a coordinator. */
const TOPICS_PER_PEER = JOBS_PER_COORDINATOR * jobChannels.length;
/** Bytes that gossipsub adds to the length of each topic when it limits the memory of a peer's topics. */
const TOPIC_OVERHEAD_BYTES = 1024;
const TOPIC_BYTES = 128;
/**
 * Maximum number of message ids in one IHAVE: twice the number of heartbeats that the nodes of a full round send during
 * OFFERED_HEARTBEATS.
 */
const OFFERED_MESSAGES =
  2 * Math.ceil((ROUND_PEERS * OFFERED_HEARTBEATS * HEARTBEAT_MS) / HEARTBEAT_INTERVAL_MS);
/** Space for the signed envelope around the body of a message. */
const ENVELOPE_BYTES = 1024;
/**
 * Maximum number of peers that may share one address, for example in a lab. If more peers share an address, gossipsub
 * penalises them as one attacker.
 */
const PEERS_PER_ADDRESS = 64;
/**
 * Factor of the penalty for a peer's rejected messages. The penalty grows with the square of their number. Nine
 * rejected messages in a short time give a score of −81, and gossipsub ignores a peer below −80.
 */
const REJECT_WEIGHT = -1;
const REJECT_HALF_LIFE_MS = 10 * 60_000;
/**
 * Number of breaches of the mesh rules that are not penalised, because restarts and stalls of honest peers cause some.
 */
const FORGIVEN_BREACHES = 6;

const channelKind: Record<JobChannel, MessageKind> = { heads: 'head', updates: 'update', peers: 'heartbeat' };

/** Returns the maximum message size of a topic in bytes, or null if the topic is not of this protocol. */
export function topicMessageBytes(topic: string): number | null {
  const parsed = parseJobTopic(topic);
  return parsed === null ? null : messageBytes[channelKind[parsed.channel]] + ENVELOPE_BYTES;
}

function messageId(message: Message): Uint8Array {
  const from = message.type === 'signed' ? message.from.toMultihash().bytes : new Uint8Array();
  return contentId({ topic: message.topic, from, data: message.data });
}

/**
 * Score parameters of a topic. Only rejected messages count. Our topics carry too few messages for gossipsub to score
 * the delivery of messages.
 */
export const topicScore: TopicScoreParams = {
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
  // gossipsub multiplies the number of rejected messages by this factor once per second, so that half of the number is
  // left after one half-life.
  invalidMessageDeliveriesDecay: 0.5 ** (1000 / REJECT_HALF_LIFE_MS),
};

const peerScore: Partial<PeerScoreParams> = {
  IPColocationFactorThreshold: PEERS_PER_ADDRESS,
  // All nodes of a swarm on one machine share one address. The default limit of 10 silently mutes such a swarm from the
  // twelfth node on.
  IPColocationFactorWhitelist: new Set(['127.0.0.1', '::1']),
  behaviourPenaltyThreshold: FORGIVEN_BREACHES,
  // The weight is 1, because the soft score of gossip-gate.ts has the same scale as the total score.
  appSpecificWeight: 1,
};

/** Creates the gossipsub service with every limit set. */
export function gossipService(): ReturnType<typeof gossipsub> {
  const options: Partial<GossipsubOpts> = {
    globalSignaturePolicy: 'StrictSign',
    msgIdFn: messageId,
    // Recognises a repeated message before its signature is verified. gossipsub remembers only verified messages.
    fastMsgIdFn: (message) => Buffer.from(contentId(message)).toString('base64'),
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
    // A sparse mesh sends fewer copies. It suffices, because updates have few subscribers, and a coordinator sends each
    // head to all subscribers that it is connected to.
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
      // An honest peer answers an IWANT with all requested messages in one RPC. GOSSIP_RPC_BYTES limits its size.
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
