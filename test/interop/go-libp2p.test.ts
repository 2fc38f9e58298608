import { prepareGoLibp2p } from './foreign-peer.ts';
import { testGossipBothWays } from './gossip-both-ways.ts';

testGossipBothWays('go-libp2p with go-libp2p-pubsub', prepareGoLibp2p);
