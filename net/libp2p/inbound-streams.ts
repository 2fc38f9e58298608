/**
 * Limits the number and the rate of inbound streams. Written for `@libp2p/yamux` 8.0.3 and libp2p 3.3.11. libp2p limits
 * the streams of each connection, but not the streams of all connections together, and not their rate. A stream costs
 * the peer that opens it 12 bytes. It costs us a third of a millisecond and, for 10 s, several kilobytes of memory. If
 * libp2p had limits for all streams of an address, this file would not be needed.
 */

import type { Connection, Libp2p, StreamMuxer } from '@libp2p/interface';
import { type Quota, RateLimiter } from '../../common/limits/rate-limiter.ts';
import type { Clock } from '../../common/time/clock.ts';
import { netError } from '../errors.ts';
import type { NetworkMeter } from '../meter.ts';
import type { Shares } from '../shares.ts';
import { networkOf } from './remote-network.ts';
import { limitUnread } from './unread-bytes.ts';

/** The header of a yamux frame. The published types of yamux leave it out. */
interface FrameHeader {
  readonly type: number;
  readonly flag: number;
  readonly streamID: number;
  readonly length: number;
}
/** A yamux muxer, with the methods that its published type leaves out. */
interface YamuxConnection extends StreamMuxer {
  handleFrame(frame: { readonly header: FrameHeader }): void;
  sendFrame(header: FrameHeader): void;
}
/** A libp2p connection with its member `muxer`, which the published type of connections leaves out. */
interface MuxedConnection {
  readonly muxer: YamuxConnection;
}

/** Frame types (WINDOW_UPDATE, PING) and flags (SYN, RST) of the yamux specification. */
const WINDOW_UPDATE = 1;
const PING = 2;
const SYN = 1;
const RST = 8;

/**
 * Number of streams that all strangers at one address together may always open: 30 a second. A node opens six streams
 * before it has joined and is known.
 */
const OWN_STREAMS: Quota = { calls: 120, perMs: 4_000 };
/** Number of further streams that strangers at one address may open, if {@link COMMON_STREAMS} are left. */
const FURTHER_STREAMS: Quota = { calls: 360, perMs: 4_000 };
/**
 * Number of streams that the strangers at all addresses together may open in addition to {@link OWN_STREAMS}.
 * This number is enough for 40 nodes that join at once behind one address. Without this limit, 16 addresses
 * that open 120 streams a second each would use two thirds of a core.
 */
const COMMON_STREAMS: Quota = { calls: 960, perMs: 4_000 };
/**
 * Number of streams that a known peer may open. A node that fetches small blobs in a local network opens hundreds a
 * second.
 */
const KNOWN_STREAMS: Quota = { calls: 4_000, perMs: 4_000 };
/**
 * Number of streams of a connection that may be reset because of the limits above. A connection with more resets is
 * closed.
 */
const REFUSED_STREAMS: Quota = { calls: 100, perMs: 10_000 };
/**
 * Number of pings that a peer may send on a connection. We answer each of them. An honest peer's yamux sends one every
 * 30 seconds.
 */
const PINGS: Quota = { calls: 100, perMs: 10_000 };

export interface InboundStreamsDeps {
  shares: Shares;
  clock: Clock;
  meter: NetworkMeter;
}

/** Resets inbound streams that arrive too fast, get no permit, or lose their permit to another peer. */
export function shareStreams(node: Libp2p, deps: InboundStreamsDeps): void {
  const limiter = new RateLimiter(deps);
  node.addEventListener('connection:open', ({ detail: connection }: CustomEvent<Connection>) => {
    const { muxer } = connection as unknown as MuxedConnection;
    const claimant = { address: networkOf(connection.remoteAddr), peer: connection.remotePeer.toString() };
    limitRates(muxer, { ...deps, ...claimant, limiter });
    muxer.addEventListener('stream', ({ detail: stream }) => {
      if (stream.status !== 'open') return;
      const refuse = (): void => stream.abort(netError('STREAM_CLOSED', 'there are too many streams'));
      const release = deps.shares.streams.take(claimant, refuse);
      if (release === null) return refuse();
      stream.addEventListener('close', release, { once: true });
      limitUnread(stream, claimant, () => deps.shares.unread(claimant.peer));
    });
  });
}

/** Counts a stream that a stranger at the address opens. Returns false if a quota is used up. */
export function mayStrangerOpen(limiter: RateLimiter, address: string): boolean {
  if (limiter.take(`strangers ${address}`, OWN_STREAMS)) return true;
  return limiter.take(`further ${address}`, FURTHER_STREAMS) && limiter.take('common', COMMON_STREAMS);
}

/** Makes a muxer refuse streams before it creates them, and close its connection if the peer keeps opening them. */
function limitRates(
  muxer: YamuxConnection,
  deps: InboundStreamsDeps & { limiter: RateLimiter; address: string; peer: string },
): void {
  const { limiter, address, peer, shares, meter } = deps;
  // Each connection has its own limiter. In the common limiter, the keys of many short connections could displace the
  // keys of addresses.
  const own = new RateLimiter(deps);
  const handleFrame = muxer.handleFrame.bind(muxer);
  const mayOpen = (): boolean =>
    shares.isKnown(peer) ? limiter.take(`known ${peer}`, KNOWN_STREAMS) : mayStrangerOpen(limiter, address);
  // The library closes the connection if this method throws.
  muxer.handleFrame = (frame) => {
    const { type, flag, streamID } = frame.header;
    if (type === PING && !own.take('pings', PINGS)) {
      throw netError('MUXER_FRAME', 'the peer sent too many pings');
    }
    if (type === PING || (flag & SYN) === 0 || mayOpen()) return handleFrame(frame);
    meter.refusal({ queue: 'streams', reason: 'rate' });
    if (!own.take('refused', REFUSED_STREAMS)) {
      throw netError('MUXER_FRAME', 'the peer opened too many streams');
    }
    muxer.sendFrame({ type: WINDOW_UPDATE, flag: RST, streamID, length: 0 });
  };
}
