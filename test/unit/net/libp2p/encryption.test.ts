import { createHash, randomBytes } from 'node:crypto';
import type { Libp2p, Stream } from '@libp2p/interface';
import { noise } from '@libp2p/noise';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { createLibp2p } from 'libp2p';
import { expect, it, onTestFinished } from 'vitest';
import { LOOPBACK, soon, startRaw } from '../../../utils/swarm/hosts.ts';

const PROTOCOL = '/test/pour/1';
/** Sizes around every limit: small messages, one byte below and above a full one, several messages, a flow-control window. */
const sizes = [1, 15, 1199, 1200, 65_518, 65_519, 65_520, 262_064, 700_001];

/** An unmodified libp2p node. */
async function startStock(): Promise<Libp2p> {
  const node = await createLibp2p({
    addresses: { listen: [LOOPBACK] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
  });
  onTestFinished(() => node.stop());
  return node;
}

async function pour(stream: Stream, pieces: readonly Uint8Array[]): Promise<void> {
  for (const piece of pieces) if (!stream.send(piece)) await stream.onDrain({ signal: soon() });
  await stream.close({ signal: soon() });
}

async function digestOf(stream: Stream): Promise<string> {
  const hash = createHash('sha256');
  for await (const data of stream)
    for (const piece of data instanceof Uint8Array ? [data] : data) hash.update(piece);
  return hash.digest('hex');
}

it('carries the same bytes between our node and an unmodified libp2p node, both ways', async () => {
  const pieces = sizes.map((size) => randomBytes(size));
  const expected = createHash('sha256').update(Buffer.concat(pieces)).digest('hex');
  const [ours, stock] = await Promise.all([startRaw(), startStock()]);
  for (const [from, to] of [
    [ours, stock],
    [stock, ours],
  ] as const) {
    const arrived = Promise.withResolvers<string>();
    await to.handle(PROTOCOL, (stream) => void digestOf(stream).then(arrived.resolve, arrived.reject));
    const stream = await from.dialProtocol(to.getMultiaddrs(), PROTOCOL, { signal: soon() });
    await pour(stream, pieces);
    expect(await arrived.promise).toBe(expected);
  }
});
