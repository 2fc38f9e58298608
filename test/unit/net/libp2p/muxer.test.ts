import type { Libp2p } from '@libp2p/interface';
import { describe, expect, it } from 'vitest';
import { BLOB_PROTOCOL } from '../../../../protocol/requests/rpc.ts';
import { eventually } from '../../../utils/eventually.ts';
import { rawStream, soon, startHost, startRaw, type TestHost } from '../../../utils/swarm/hosts.ts';

/** The encrypted connection below a muxer, to send frames that the library never sends. */
interface Below {
  status: string;
  send(bytes: Uint8Array): boolean;
}

async function below(node: Libp2p, host: TestHost): Promise<Below> {
  await rawStream(node, host, BLOB_PROTOCOL);
  const [connection] = node.getConnections() as unknown as { muxer: { maConn: Below } }[];
  return connection!.muxer.maConn;
}

function frameHeader(stream: number, length: number): Uint8Array {
  const header = new Uint8Array(12);
  const view = new DataView(header.buffer);
  view.setUint32(4, stream);
  view.setUint32(8, length);
  return header;
}

describe('the muxer', () => {
  it('closes a connection that announces an oversized frame, before the frame has arrived', async () => {
    const [host, node] = await Promise.all([startHost(), startRaw()]);
    const connection = await below(node, host);
    connection.send(frameHeader(99, 0xffff_fff0));
    const piece = new Uint8Array(64 * 1024);
    let sent = 0;
    await eventually(() => {
      if (connection.status === 'open') connection.send(piece);
      sent += piece.length;
      return host.network.peers().length === 0;
    });
    expect(sent).toBeLessThan(64 * 1024 * 1024);
  });

  it('closes a connection whose data arrive in single bytes, but not one that mixes small and large messages', async () => {
    const [host, node] = await Promise.all([startHost(), startRaw()]);
    const other = await startRaw();
    const received = { bytes: 0 };
    await other.handle('/test/small', (stream) => {
      stream.addEventListener('message', ({ data }) => {
        received.bytes += data.byteLength;
      });
    });
    const stream = await node.dialProtocol(other.getMultiaddrs(), '/test/small', { signal: soon() });
    for (let i = 0; i < 10_000; i++) stream.send(new Uint8Array(i % 8 === 0 ? 200 : 1));
    await eventually(() => received.bytes === 1250 * 200 + 8750);

    const hostile = await rawStream(node, host, BLOB_PROTOCOL);
    expect(host.network.peers()).toHaveLength(1);
    for (let i = 0; i < 10_000 && hostile.status === 'open'; i++) hostile.send(new Uint8Array(1));
    await eventually(() => host.network.peers().length === 0);
  });
});
