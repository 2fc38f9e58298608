/**
 * Fewer system calls per encrypted message. Written for `@libp2p/tcp` 11.0.28, which writes each piece of a message to the
 * socket separately. `socket.cork()` around the loop in its `sendData` would replace this file.
 */

import type { MultiaddrConnection } from '@libp2p/interface';
import { socketOf } from './tcp-socket.ts';

/** The method of a TCP connection that is replaced; its published type leaves the method out. */
interface TcpConnection {
  sendData(pieces: Iterable<Uint8Array> & { byteLength: number }): {
    sentBytes: number;
    canSendMore: boolean;
  };
}

/**
 * Makes a TCP connection pass a message to the system in one call. An encrypted message has three pieces, two of them only a
 * few bytes long, and each separate write also wakes the receiver. Does nothing for a connection without a socket.
 */
export function gatherWrites(connection: MultiaddrConnection): void {
  const socket = socketOf(connection);
  if (socket === undefined) return;
  (connection as unknown as TcpConnection).sendData = (pieces) => {
    let flowing = true;
    socket.cork();
    for (const piece of pieces) flowing = socket.write(piece) && flowing;
    socket.uncork();
    // `write` judges by the bytes held while corked; `uncork` may have sent all of them, and then no `drain` follows.
    return { sentBytes: pieces.byteLength, canSendMore: flowing || socket.writableLength === 0 };
  };
}
