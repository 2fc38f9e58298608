import type { AbortOptions, Libp2p, Stream } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';

/** The little of a libp2p node that the request protocols need. Peers are named by their id. */
export interface Streams {
  /** Opens a stream, dialling the peer first when it is not connected. @throws libp2p's own errors */
  open(
    peer: string,
    protocol: string,
    options: { signal: AbortSignal; maxOutboundStreams?: number },
  ): Promise<Stream>;
  handle(
    protocol: string,
    options: { maxInboundStreams: number },
    handler: (stream: Stream, peer: string) => Promise<void>,
  ): Promise<void>;
}

/** Finishes a stream in good order, or resets it when the other side does not play along. */
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

export function streamsOf(node: Libp2p): Streams {
  return {
    async open(peer, protocol, options) {
      const id = peerIdFromString(peer);
      return node.dialProtocol(id, protocol, options);
    },
    handle: (protocol, options, handler) =>
      node.handle(
        protocol,
        (stream, connection) => handler(stream, connection.remotePeer.toString()),
        options,
      ),
  };
}
