import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import type { MultiaddrConnection } from '@libp2p/interface';
import { encode } from 'it-length-prefixed';
import { expect, it, onTestFinished } from 'vitest';
import { gatherWrites, WAITING_BYTES } from '../../../../net/libp2p/gathered-writes.ts';
import { soon } from '../../../utils/swarm/hosts.ts';

const MiB = 1024 * 1024;

interface Sending {
  sendData(pieces: ReturnType<typeof encode.single>): { sentBytes: number; canSendMore: boolean };
}

/** Returns both ends of a TCP connection. The first end is wrapped as the transport wraps it. */
async function pair(): Promise<{ sending: Sending; from: Socket; to: Socket }> {
  const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening', { signal: soon() });
  const { port } = server.address() as { port: number };
  const from = connect(port, '127.0.0.1');
  const [[to]] = await Promise.all([
    once(server, 'connection', { signal: soon() }) as Promise<[Socket]>,
    once(from, 'connect', { signal: soon() }),
  ]);
  onTestFinished(() => {
    for (const closing of [from, to]) closing.destroy();
    server.close();
  });
  const connection = { socket: from, abort: (error: Error) => from.destroy(error) };
  gatherWrites(connection as unknown as MultiaddrConnection);
  return { sending: connection as unknown as Sending, from, to };
}

function pieces(bytes: Uint8Array) {
  const list = encode.single(bytes).sublist(0, 0);
  for (const [start, end] of [
    [0, 2],
    [2, bytes.length - 16],
    [bytes.length - 16, bytes.length],
  ] as const) {
    list.append(bytes.subarray(start, end));
  }
  return list;
}

it('sends all pieces in order', async () => {
  const { sending, from, to } = await pair();
  const bytes = randomBytes(1000);
  expect(sending.sendData(pieces(bytes))).toEqual({ sentBytes: 1000, canSendMore: true });
  from.end();
  const arrived: Buffer[] = [];
  for await (const chunk of to) arrived.push(chunk as Buffer);
  expect(Buffer.concat(arrived).equals(bytes)).toBe(true);
});

it.each([MiB, 10_000])(
  'signals back-pressure for writes of %i bytes, and drains when the peer reads',
  async (size) => {
    const { sending, from, to } = await pair();
    const bytes = randomBytes(size);
    let sent = 0;
    for (let flowing = true; flowing; sent += size) flowing = sending.sendData(pieces(bytes)).canSendMore;
    expect(sent).toBeLessThan(64 * MiB);
    // If nothing waited to be written, no `drain` event would follow.
    expect(from.writableNeedDrain).toBe(true);
    let received = 0;
    to.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    const drained = once(from, 'drain', { signal: soon() });
    to.resume();
    await drained;
    from.end();
    await once(to, 'end', { signal: soon() });
    expect(received).toBe(sent);
  },
);

it('closes the connection of a peer that never reads, whatever it is sent', async () => {
  const { sending, from } = await pair();
  const closed = once(from, 'error', { signal: soon() });
  const bytes = new Uint8Array(256 * 1024);
  let sent = 0;
  for (; sent < 64 * WAITING_BYTES && !from.destroyed; sent += bytes.length) sending.sendData(pieces(bytes));
  expect(await closed).toMatchObject([{ code: 'PEER_DISCONNECTED' }]);
  expect(sent).toBeGreaterThan(WAITING_BYTES);
  expect(sent).toBeLessThan(16 * WAITING_BYTES);
});
