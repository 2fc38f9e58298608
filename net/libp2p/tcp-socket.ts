/**
 * Access to the socket of a TCP connection. Written for `@libp2p/tcp` 11.0.28, whose connection has a `socket` property
 * that the published type leaves out. If `MultiaddrConnection` counted its bytes and gathered its writes, this file
 * would not be needed.
 */

import type { Socket } from 'node:net';
import type { MultiaddrConnection } from '@libp2p/interface';

/**
 * Returns the socket of a connection; undefined for a relayed connection, which runs inside a stream of another
 * connection.
 */
export function socketOf(connection: MultiaddrConnection): Socket | undefined {
  return (connection as unknown as { socket?: Socket }).socket;
}
