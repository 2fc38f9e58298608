import type { Socket } from 'node:net';
import type { MultiaddrConnection } from '@libp2p/interface';

/** What a TCP connection is at run time; its published type does not say so. */
interface SocketConnection {
  readonly socket: Socket;
  sendData(pieces: Iterable<Uint8Array> & { byteLength: number }): SendResult;
}

interface SendResult {
  sentBytes: number;
  canSendMore: boolean;
}

/**
 * Makes a connection hand what it sends to the system in one call instead of one for each piece: an encrypted message is
 * three, of which two are a few bytes, and each call costs the receiver a look at its socket too.
 */
export function gatherWrites(connection: MultiaddrConnection): void {
  const tcp = connection as unknown as SocketConnection;
  const { socket } = tcp;
  tcp.sendData = (pieces) => {
    let flowing = true;
    socket.cork();
    for (const piece of pieces) flowing = socket.write(piece) && flowing;
    socket.uncork();
    // The socket says `false`, and later `drain`, by what it holds while corked; uncorked it may have got rid of it all.
    return { sentBytes: pieces.byteLength, canSendMore: flowing || socket.writableLength === 0 };
  };
}
