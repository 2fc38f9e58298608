import { RPC } from '@libp2p/gossipsub/message';
import { messageOf, SwarmError } from '../../common/errors.ts';
import type { SeededRandom } from '../../test/utils/virtual/seeded-random.ts';
import type { FuzzDecoder } from './decoder.ts';

const TOPIC = `/lora-swarm/1/${'b'.repeat(64)}/heads`;
/** Maximum numbers of items in the lists of an RPC, about as many as net/libp2p/gossip-service.ts allows. */
const GOSSIP_LIMITS = {
  subscriptions: 64,
  messages: 500,
  control: {
    ihave: 64,
    ihave$: { messageIDs: 500 },
    iwant: 64,
    iwant$: { messageIDs: 500 },
    graft: 64,
    prune: 64,
  },
};

/** Returns an RPC of gossipsub with a value in each of its fields. */
function gossip(random: SeededRandom): RPC {
  const id = new Uint8Array(random.integer(1, 40)).fill(7);
  const messageIDs = [id, id];
  const message = {
    from: id,
    data: id,
    seqno: new Uint8Array(8),
    topic: TOPIC,
    signature: new Uint8Array(64),
    key: id,
  };
  return {
    subscriptions: [{ subscribe: true, topic: TOPIC }],
    messages: Array.from({ length: random.integer(0, 3) }, () => message),
    control: {
      ihave: [{ topicID: TOPIC, messageIDs }],
      iwant: [{ messageIDs }],
      graft: [{ topicID: TOPIC }],
      prune: [{ topicID: TOPIC, peers: [{ peerID: id, signedPeerRecord: id }], backoff: 60 }],
      idontwant: [{ messageIDs }],
    },
  };
}

/** The decoder of the messages with which peers run gossipsub. */
export const gossipDecoder: FuzzDecoder = {
  name: 'gossip',
  cbor: false,
  example: (random) => RPC.encode(gossip(random)),
  decode(bytes) {
    try {
      return RPC.decode(bytes, { limits: GOSSIP_LIMITS });
    } catch (error) {
      // Any kind of error counts as a refusal here, because gossipsub drops an RPC after any error of decoding.
      throw new SwarmError('GOSSIP_MALFORMED', messageOf(error), {});
    }
  },
};
