/**
 * Limits on inbound connections, for libp2p 3.3.11. Its connection manager has limits too, but they are the same for all
 * addresses together (`maxIncomingPendingConnections`, `maxConnections`), so one address can use them up. They are turned
 * off in create.ts. With limits per address in the connection manager, this file would be shorter.
 */

import type { ConnectionGater, MultiaddrConnection, PeerId } from '@libp2p/interface';
import { isLoopback } from '@libp2p/utils';
import type { Clock } from '../../common/clock.ts';
import { RateLimiter } from '../../common/rate-limiter.ts';
import { netError } from '../errors.ts';
import type { NetworkObserver } from '../observer.ts';
import type { Shares } from '../shares.ts';
import { gatherWrites } from './gathered-writes.ts';
import { networkOf } from './remote-network.ts';
import { socketOf } from './tcp-socket.ts';
import type { Traffic } from './traffic.ts';

/**
 * New connections of one address, for example when a class behind one router starts at once. Each costs a key exchange.
 * Loopback is exempt, because whole swarms may start on one machine at once.
 */
const NEW_CONNECTIONS = { calls: 20, perMs: 1000 };
/** Longest time without a byte in a handshake. A handshake takes a few round trips. */
const HANDSHAKE_IDLE_MS = 3_000;

export interface GateDeps {
  traffic: Traffic;
  shares: Shares;
  clock: Clock;
  observer: NetworkObserver;
}

/**
 * Returns the connection gater of a host. It gives each address its share of handshakes and connections, and refuses
 * peers without an Ed25519 key. It also counts the bytes of connections, and makes them gather their writes.
 */
export function gate({ traffic, shares, clock, observer }: GateDeps): ConnectionGater {
  const limiter = new RateLimiter({ clock });
  /** Ends the handshake of a connection. */
  const handshakes = new WeakMap<MultiaddrConnection, () => void>();

  const denied = (peer: PeerId, connection: MultiaddrConnection): boolean => {
    traffic.follow(connection);
    gatherWrites(connection);
    // Signatures are verified with the key inside the peer id, and only Ed25519 ids hold a key that we support.
    return peer.type !== 'Ed25519';
  };

  return {
    denyInboundConnection: (connection) => {
      // A connection that is already closed emits no 'close', so nothing would release its permit.
      if (connection.status !== 'open') return true;
      const address = networkOf(connection.remoteAddr);
      if (!isLoopback(connection.remoteAddr) && !limiter.take(address, NEW_CONNECTIONS)) {
        observer.refusal({ queue: 'handshakes', reason: 'rate' });
        return true;
      }
      const release = shares.handshakes.take({ address, peer: '' }, () => connection.abort(gaveWay()));
      if (release === null) return true;
      const onStalled = (): void => {
        observer.refusal({ queue: 'handshakes', reason: 'stalled' });
        connection.abort(netError('CONNECTION_REFUSED', 'the peer sent nothing during the handshake'));
      };
      const cancel = whenStalled(connection, clock, onStalled);
      const end = (): void => {
        cancel();
        release();
      };
      handshakes.set(connection, end);
      connection.addEventListener('close', end, { once: true });
      return false;
    },
    denyInboundEncryptedConnection: denied,
    denyOutboundEncryptedConnection: denied,
    denyInboundUpgradedConnection: (peer, connection) => {
      handshakes.get(connection)?.();
      if (connection.status !== 'open') return true;
      const claimant = { address: networkOf(connection.remoteAddr), peer: peer.toString() };
      const release = shares.connections.take(claimant, () => connection.abort(gaveWay()));
      if (release === null) return true;
      connection.addEventListener('close', release, { once: true });
      return false;
    },
  };
}

/** Calls `onStalled` when no byte has arrived for a while. Returns a function that stops watching. */
function whenStalled(connection: MultiaddrConnection, clock: Clock, onStalled: () => void): () => void {
  const socket = socketOf(connection);
  if (socket === undefined) return () => {};
  let received = socket.bytesRead;
  let cancel = (): void => {};
  const watch = (): void => {
    cancel = clock.after(HANDSHAKE_IDLE_MS, () => {
      if (socket.bytesRead === received) return onStalled();
      received = socket.bytesRead;
      watch();
    });
  };
  watch();
  return () => cancel();
}

function gaveWay(): Error {
  return netError('CONNECTION_REFUSED', 'the connection gave way to one of another address or identity');
}
