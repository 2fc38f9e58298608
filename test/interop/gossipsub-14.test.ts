import { prepareGossipsub14 } from './foreign-peer.ts';
import { testGossipBothWays } from './gossip-both-ways.ts';

testGossipBothWays('@chainsafe/libp2p-gossipsub 14 on libp2p 2', prepareGossipsub14);
