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

/** The nodes of a full round, a second connection for each that reconnects, and visitors. */
const CONNECTIONS = 2 * ROUND_PEERS + 256;
/**
 * Open connections from one address: a large computer room behind one router, and a second connection for each node that
 * reconnects. It takes five addresses to fill a host.
 */
const CONNECTIONS_PER_ADDRESS = 256;
/** New connections per second from one address: a classroom behind one router that starts at once. */
const INBOUND_PER_SECOND = 20;
/** Connections in the handshake. Each costs memory and a key exchange. */
const INBOUND_PENDING = 64;
const HANDSHAKE_TIMEOUT_MS = 10_000;
const PARALLEL_DIALS = 32;
/** Loopback is exempt: whole swarms may start on one machine at once, and remote peers cannot use it. */
const LOOPBACK = ['/ip4/127.0.0.1', '/ip6/::1'];
/** A connection that does not answer pings is closed. Long timeout, because nodes train on all their cores. */
const PING_INTERVAL_MS = 10_000;
const PING_TIMEOUT_MS = 15_000;
/** Flow-control window of a stream: one blob range. Half the read buffer, so that unread bytes always fit. */
const STREAM_WINDOW_BYTES = 1024 * 1024;
const STREAM_READ_BUFFER_BYTES = 2 * STREAM_WINDOW_BYTES;
/** Streams per connection and direction: above the sum of the limits of rpc, blobs, gossip, identify and ping. */
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
