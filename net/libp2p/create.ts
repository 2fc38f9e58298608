import { identify } from '@libp2p/identify';
import type { Ed25519PrivateKey, Libp2p } from '@libp2p/interface';
import { ping } from '@libp2p/ping';
import { tcp } from '@libp2p/tcp';
import { createLibp2p } from 'libp2p';
import { ROUND_PEERS } from '../../protocol/limits.ts';
import { gossipService } from '../gossip-service.ts';
import { AddressLimit } from './address-limit.ts';
import { encryption } from './encryption.ts';
import { localDiscovery } from './local-discovery.ts';
import { muxer } from './muxer.ts';
import { publicAddresses } from './public-addresses.ts';
import { gate, type Traffic } from './traffic.ts';

/**
 * Largest number of connections: two for each node of a full round, because a node may reconnect, and 256 for other
 * peers.
 */
const CONNECTIONS = 2 * ROUND_PEERS + 256;
/**
 * Largest number of open connections from one address: enough for a large computer room behind one router, with a
 * second connection for each node that reconnects. An attacker needs five addresses to take all connections of a host.
 */
const CONNECTIONS_PER_ADDRESS = 256;
/**
 * Largest number of new connections per second from one address, for example when a class behind one router starts at
 * once.
 */
const INBOUND_PER_SECOND = 20;
/** Largest number of connections in the handshake. Each costs memory and a key exchange. */
const INBOUND_PENDING = 64;
const HANDSHAKE_TIMEOUT_MS = 10_000;
const PARALLEL_DIALS = 32;
/**
 * Addresses to which libp2p's limits on inbound connections do not apply. Whole swarms may start on one machine at once,
 * and remote peers cannot use loopback addresses.
 */
const LOOPBACK = ['/ip4/127.0.0.1', '/ip6/::1'];
/** A connection without answers to pings is closed. The timeout is long because nodes train on all their cores. */
const PING_INTERVAL_MS = 10_000;
const PING_TIMEOUT_MS = 15_000;
/**
 * Flow-control window of a stream: one blob range. The read buffer is twice as large, so that unread bytes always fit.
 */
const STREAM_WINDOW_BYTES = 1024 * 1024;
const STREAM_READ_BUFFER_BYTES = 2 * STREAM_WINDOW_BYTES;
/**
 * Largest number of streams per connection and direction: more than the limits of rpc, blobs, gossip, identify and ping
 * add up to.
 */
const STREAMS_PER_CONNECTION = 128;
/** Idle time after which a stream is reset. */
const STREAM_INACTIVITY_MS = 120_000;

export interface NodeOptions {
  listen: readonly string[];
  /** Multiaddrs to announce besides the listen addresses. @default [] */
  announce?: readonly string[];
  mdns: readonly string[];
  agent: string;
}

/** Creates the libp2p node with every limit set, but does not start it. */
export function createNode(
  options: NodeOptions,
  deps: { privateKey: Ed25519PrivateKey; traffic: Traffic },
): Promise<Libp2p<{ pubsub: object }>> {
  return createLibp2p({
    start: false,
    privateKey: deps.privateKey,
    nodeInfo: { userAgent: options.agent },
    addresses: { listen: [...options.listen], appendAnnounce: [...(options.announce ?? [])] },
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
    connectionGater: gate({
      traffic: deps.traffic,
      addresses: new AddressLimit({ most: CONNECTIONS_PER_ADDRESS }),
    }),
    connectionManager: {
      maxConnections: CONNECTIONS,
      inboundConnectionThreshold: INBOUND_PER_SECOND,
      maxIncomingPendingConnections: INBOUND_PENDING,
      inboundUpgradeTimeout: HANDSHAKE_TIMEOUT_MS,
      maxParallelDials: PARALLEL_DIALS,
      allow: LOOPBACK,
    },
    connectionMonitor: { pingInterval: PING_INTERVAL_MS, pingTimeout: { minTimeout: PING_TIMEOUT_MS } },
    peerDiscovery: localDiscovery(options.mdns),
    services: {
      identify: identify(),
      ping: ping(),
      pubsub: gossipService(),
      publicAddresses: publicAddresses(),
    },
  });
}
