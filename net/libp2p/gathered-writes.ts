/**
 * Reduces the number of system calls for each encrypted message. Written for `@libp2p/tcp` 11.0.28, which
 * writes each piece of a message to the socket separately. If its `sendData` called `socket.cork()` around
 * the loop, this file would not be needed.
 */

import type { MultiaddrConnection } from '@libp2p/interface';
import { netError } from '../errors.ts';
import { socketOf } from './tcp-socket.ts';

/**
 * Maximum number of bytes that may wait for a peer to read. Streams stop sending much earlier, when the system accepts
 * no more bytes. But the muxer answers each data frame with a window update in any case. Without this limit, a peer
 * that sends many small frames and reads nothing could fill the memory with these answers.
 */
export const WAITING_BYTES = 4 * 1024 * 1024;

/** The method of a TCP connection that this file replaces. The published type leaves this method out. */
interface TcpConnection {
  sendData(pieces: Iterable<Uint8Array> & { byteLength: number }): {
    sentBytes: number;
    canSendMore: boolean;
  };
}

/**
 * Makes a TCP connection pass a message to the system in one call. An encrypted message has three pieces, two of them
 * only a few bytes long, and every separate write would also wake the receiver. Does nothing for a connection without a
 * socket. Closes the connection if more than WAITING_BYTES wait.
 */
export function gatherWrites(connection: MultiaddrConnection): void {
  const socket = socketOf(connection);
  if (socket === undefined) return;
  (connection as unknown as TcpConnection).sendData = (pieces) => {
    let flowing = true;
    socket.cork();
    for (const piece of pieces) flowing = socket.write(piece) && flowing;
    socket.uncork();
    if (socket.writableLength > WAITING_BYTES) {
      connection.abort(netError('PEER_DISCONNECTED', 'the peer does not read what is sent to it'));
    }
    // `write` returns false for bytes held while corked. If `uncork` has sent them all, no `drain` follows, so report
    // true.
    return { sentBytes: pieces.byteLength, canSendMore: flowing || socket.writableLength === 0 };
  };
}
