import { identify } from '@libp2p/identify';
import type { Ed25519PrivateKey, Libp2p } from '@libp2p/interface';
import { ping } from '@libp2p/ping';
import { tcp } from '@libp2p/tcp';
import { createLibp2p } from 'libp2p';
import { DIAL_TIMEOUT_MS, ROUND_PEERS } from '../../protocol/limits.ts';
import { gossipService } from '../gossip.ts';
import { AddressLimit } from './address-limit.ts';
import { encryption } from './encryption.ts';
import { localDiscovery } from './local-discovery.ts';
import { muxer } from './muxer.ts';
import { gate, type Traffic } from './traffic.ts';

/** A full round's nodes, a spare connection for each that is just reconnecting, and visitors. */
const CONNECTIONS = 2 * ROUND_PEERS + 256;
/**
 * Open ones from one address: a large computer room behind one router, and a spare for each that is reconnecting. It
 * takes five addresses to fill a host, and loopback does not count.
 */
const PER_ADDRESS = 256;
/** New connections per second from one address: a classroom behind one router starting together. */
const INBOUND_PER_SECOND = 20;
/** Connections whose handshake is not complete. Each costs memory and a key exchange. */
const INBOUND_PENDING = 64;
const HANDSHAKE_TIMEOUT_MS = 10_000;
const PARALLEL_DIALS = 32;
/** Loopback is this machine: whole swarms may start there at once, and nobody can flood us from afar through it. */
const LOOPBACK = ['/ip4/127.0.0.1', '/ip6/::1'];
/** Connections that do not answer pings are dead. Generous, for machines that train on all their cores. */
const PING_INTERVAL_MS = 10_000;
const PING_TIMEOUT_MS = 15_000;
/** Unacknowledged bytes per stream: as much as one blob range. Unread bytes can then never exceed the read buffer. */
const STREAM_WINDOW_BYTES = 1024 * 1024;
const STREAM_READ_BUFFER_BYTES = 2 * STREAM_WINDOW_BYTES;
/** Streams per connection and direction: rpc, blobs, gossip, identify and ping at their own limits, and room. */
const STREAMS_PER_CONNECTION = 128;
/** How long a peer may leave a stream idle before it is reset. */
const STREAM_INACTIVITY_MS = 120_000;

export interface NodeOptions {
  listen: readonly string[];
  mdns: readonly string[];
  agent: string;
}

/** The libp2p node, not yet started, with every limit set. Nothing here knows about jobs. */
export function createNode(
  options: NodeOptions,
  deps: { privateKey: Ed25519PrivateKey; traffic: Traffic },
): Promise<Libp2p<{ pubsub: object }>> {
  return createLibp2p({
    start: false,
    privateKey: deps.privateKey,
    nodeInfo: { userAgent: options.agent },
    addresses: { listen: [...options.listen] },
    transports: [tcp({ inboundSocketInactivityTimeout: STREAM_INACTIVITY_MS, maxConnections: CONNECTIONS })],
    connectionEncrypters: [encryption()],
    streamMuxers: [
      muxer(STREAM_WINDOW_BYTES, {
        maxInboundStreams: STREAMS_PER_CONNECTION,
        maxOutboundStreams: STREAMS_PER_CONNECTION,
        streamOptions: {
          maxStreamWindowSize: STREAM_WINDOW_BYTES,
          maxReadBufferLength: STREAM_READ_BUFFER_BYTES,
          inactivityTimeout: STREAM_INACTIVITY_MS,
        },
      }),
    ],
    connectionGater: gate({ traffic: deps.traffic, addresses: new AddressLimit({ most: PER_ADDRESS }) }),
    connectionManager: {
      maxConnections: CONNECTIONS,
      inboundConnectionThreshold: INBOUND_PER_SECOND,
      maxIncomingPendingConnections: INBOUND_PENDING,
      inboundUpgradeTimeout: HANDSHAKE_TIMEOUT_MS,
      maxParallelDials: PARALLEL_DIALS,
      dialTimeout: DIAL_TIMEOUT_MS,
      allow: LOOPBACK,
    },
    connectionMonitor: { pingInterval: PING_INTERVAL_MS, pingTimeout: { minTimeout: PING_TIMEOUT_MS } },
    peerDiscovery: localDiscovery(options.mdns),
    services: { identify: identify(), ping: ping(), pubsub: gossipService() },
  });
}
