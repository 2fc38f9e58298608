/**
 * Shares of inbound streams. Written for libp2p 3.3.11, which limits the streams of a connection, but not those of all
 * connections together, and has no event for a new stream. If the node emitted such an event, this file would be shorter.
 */

import type { Connection, Libp2p, StreamMuxer } from '@libp2p/interface';
import type { FairPermits } from '../../common/fair-permits.ts';
import { netError } from '../errors.ts';
import { networkOf } from './remote-network.ts';

/** The member of a connection that its published type leaves out. */
interface MuxedConnection {
  readonly muxer: StreamMuxer;
}

/** Resets the inbound streams of a node that get no permit, and those that give way to others. */
export function shareStreams(node: Libp2p, permits: FairPermits): void {
  node.addEventListener('connection:open', ({ detail: connection }: CustomEvent<Connection>) => {
    const claimant = { address: networkOf(connection.remoteAddr), peer: connection.remotePeer.toString() };
    const { muxer } = connection as unknown as MuxedConnection;
    muxer.addEventListener('stream', ({ detail: stream }) => {
      if (stream.status !== 'open') return;
      const refuse = (): void => stream.abort(netError('STREAM_CLOSED', 'there are too many streams'));
      const release = permits.take(claimant, refuse);
      if (release === null) refuse();
      else stream.addEventListener('close', release, { once: true });
    });
  });
}
