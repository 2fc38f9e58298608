import { identify } from '@libp2p/identify';
import type { Ed25519PrivateKey, Libp2p } from '@libp2p/interface';
import { createLibp2p } from 'libp2p';
import { encryption } from './encryption.ts';
import { gate } from './gate.ts';
import { gossipService } from './gossip-service.ts';
import { type HandshakeDeps, InboundHandshakes } from './inbound-handshakes.ts';
import { InboundSlices } from './inbound-slices.ts';
import { shareStreams } from './inbound-streams.ts';
import { localDiscovery } from './local-discovery.ts';
import { muxer } from './muxer.ts';
import { pings } from './pings.ts';
import { addressProbe, type Probe } from './probe.ts';
import { publicAddresses } from './public-addresses.ts';
import { quietLogger } from './quiet-logger.ts';
import type { Traffic } from './traffic.ts';

/** Maximum total time of a handshake. inbound-handshakes.ts ends a handshake without progress earlier. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
const PARALLEL_DIALS = 32;
/**
 * All IP addresses, as a list of addresses that are exempt from libp2p's limits on inbound connections. This host has
 * its own limits on these connections, which are fair shares.
 */
const ALL_ADDRESSES = ['/ip4/0.0.0.0/ipcidr/0', '/ip6/::/ipcidr/0'];
/**
 * A connection is closed if its peer does not answer pings. The timeout is long because nodes train on all
 * their cores and may therefore answer late.
 */
const PING_INTERVAL_MS = 10_000;
const PING_TIMEOUT_MS = 15_000;
/**
 * libp2p's timeout follows a moving average that reads the calendar clock. A clock that is set back by an hour makes this
 * average NaN for good, and each ping then closes its connection. An endless interval switches the average off.
 */
const FIXED_PING_TIMEOUT = { minTimeout: PING_TIMEOUT_MS, maxTimeout: PING_TIMEOUT_MS, interval: Infinity };
/**
 * Flow-control window of a stream: one blob range. The read buffer is twice as large, so that unread bytes always fit.
 */
const STREAM_WINDOW_BYTES = 1024 * 1024;
const STREAM_READ_BUFFER_BYTES = 2 * STREAM_WINDOW_BYTES;
/**
 * Maximum number of streams per connection and direction (inbound, outbound). This number is above the sum of
 * the limits of rpc, blobs, gossip, identify and ping.
 */
const STREAMS_PER_CONNECTION = 128;
/** Idle time after which a stream is reset. */
const STREAM_INACTIVITY_MS = 120_000;

export interface NodeOptions {
  listen: readonly string[];
  /** Multiaddrs to announce in addition to the listen addresses. @default [] */
  announce?: readonly string[];
  mdns: readonly string[];
  agent: string;
}

/** The services of a host's libp2p node that this folder's callers use. */
export interface HostServices extends Record<string, unknown> {
  pubsub: object;
  addressProbe: { probe: Probe };
}

/** Creates the libp2p node with every limit set, but does not start it. */
export async function createNode(
  options: NodeOptions,
  { privateKey, traffic, ...deps }: HandshakeDeps & { privateKey: Ed25519PrivateKey; traffic: Traffic },
): Promise<Libp2p<HostServices>> {
  const handshakes = new InboundHandshakes(deps);
  const node = await createLibp2p({
    start: false,
    privateKey,
    logger: quietLogger,
    nodeInfo: { userAgent: options.agent },
    addresses: { listen: [...options.listen], appendAnnounce: [...(options.announce ?? [])] },
    transports: [handshakes.transport({ inboundSocketInactivityTimeout: STREAM_INACTIVITY_MS })],
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
    connectionGater: gate({ traffic, shares: deps.shares, handshakes, slices: new InboundSlices(deps) }),
    connectionManager: {
      maxConnections: Number.MAX_SAFE_INTEGER,
      inboundUpgradeTimeout: HANDSHAKE_TIMEOUT_MS,
      maxParallelDials: PARALLEL_DIALS,
      allow: ALL_ADDRESSES,
    },
    connectionMonitor: { pingInterval: PING_INTERVAL_MS, pingTimeout: FIXED_PING_TIMEOUT },
    peerDiscovery: localDiscovery(options.mdns),
    services: {
      identify: identify(),
      pings: pings(),
      pubsub: gossipService(),
      publicAddresses: publicAddresses(),
      addressProbe: addressProbe(),
    },
  });
  shareStreams(node, deps);
  return node;
}
