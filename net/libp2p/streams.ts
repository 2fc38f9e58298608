import type { AbortOptions, Libp2p, Stream } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import type { Claimant } from '../../common/limits/fair-permits.ts';
import type { Clock } from '../../common/time/clock.ts';
import { netError } from '../errors.ts';
import { ipOf, networkOf } from './remote-network.ts';

/** The peer that opened a stream. */
export interface StreamOpener extends Claimant {
  /** IP address of the connection; null for a relayed connection. */
  readonly ip: string | null;
}

/** The part of a libp2p node that rpc and blobs need: streams to and from peers, by peer id. */
export interface Streams {
  /** Opens a stream. Dials the peer first if it is not connected. @throws errors of libp2p */
  open(
    peer: string,
    protocol: string,
    options: { signal: AbortSignal; maxOutboundStreams?: number },
  ): Promise<Stream>;
  /** Calls `handler` for each stream that a peer opens for a protocol. */
  handle(
    protocol: string,
    options: { maxInboundStreams: number },
    handler: (stream: Stream, from: StreamOpener) => Promise<void>,
  ): Promise<void>;
}

/** Closes a stream gracefully, or resets it if that fails or the signal aborts. Never rejects. */
export async function closeStream(
  stream: Stream,
  options: AbortOptions & { signal: AbortSignal },
): Promise<void> {
  try {
    await stream.close(options);
  } catch (error) {
    stream.abort(error instanceof Error ? error : new Error(String(error)));
  }
}

/** Time that a peer has to close its side of a stream after our side is closed. */
const HALF_OPEN_MS = 1_000;

/**
 * Resets a stream that is closed on our side if the peer does not close its side soon. Otherwise the stream would take
 * memory until it has been idle for two minutes. All bytes that we have sent arrive before the reset.
 */
export function resetIfHalfOpen(stream: Stream, { clock }: { clock: Clock }): void {
  if (stream.remoteWriteStatus !== 'writable') return;
  const cancel = clock.after(HALF_OPEN_MS, () =>
    stream.abort(netError('STREAM_CLOSED', 'the peer did not close its side of the stream')),
  );
  stream.addEventListener('close', cancel, { once: true });
}

/** Wraps a libp2p node as {@link Streams}. */
export function streamsOf(node: Libp2p): Streams {
  return {
    async open(peer, protocol, options) {
      const id = peerIdFromString(peer);
      return node.dialProtocol(id, protocol, options);
    },
    handle: (protocol, options, handler) =>
      node.handle(
        protocol,
        (stream, { remotePeer, remoteAddr }) =>
          handler(stream, {
            peer: remotePeer.toString(),
            address: networkOf(remoteAddr),
            ip: ipOf(remoteAddr),
          }),
        options,
      ),
  };
}
