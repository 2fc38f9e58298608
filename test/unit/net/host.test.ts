import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import { generateKeyPair } from '@libp2p/crypto/keys';
import { noise } from '@libp2p/noise';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { createLibp2p } from 'libp2p';
import { describe, expect, it, onTestFinished } from 'vitest';
import { BLOB_PROTOCOL, RPC_PROTOCOL } from '../../../protocol/requests/rpc.ts';
import { eventually } from '../../utils/eventually.ts';
import { withCode } from '../../utils/source/codes.ts';
import { join, LOOPBACK, rawStream, soon, startHost, startRaw } from '../../utils/swarm/hosts.ts';
import { testKeys } from '../../utils/swarm/job-keys.ts';

const failed = (reason: string) => withCode('CONNECT_FAILED', { reason });

describe('connecting', () => {
  it('works with and without a peer id in the address', async () => {
    const [a, b, c] = await Promise.all([startHost(), startHost(), startHost()]);
    const full = b.network.addresses()[0]!;
    expect(full).toMatch(new RegExp(`^/ip4/127\\.0\\.0\\.1/tcp/\\d+/p2p/${b.peer}$`));
    expect(await a.network.connect(full, { signal: soon() })).toBe(b.peer);
    expect(await c.network.connect(full.replace(/\/p2p\/.*/, ''), { signal: soon() })).toBe(b.peer);
    const [connection] = a.network.peers();
    expect(connection).toMatchObject({ peer: b.peer, address: full, direction: 'outbound' });
    await eventually(() => b.network.peers().length === 2);
    expect(b.network.peers().map(({ direction }) => direction)).toEqual(['inbound', 'inbound']);
  });

  it('fails with a reason', async () => {
    const host = await startHost();
    const other = await startHost();
    const connect = (address: string) => host.network.connect(address, { signal: soon() });
    const [address] = other.network.addresses();
    const unknown = (await startHost()).peer;
    await expect(connect('not an address')).rejects.toEqual(failed('malformed'));
    await expect(connect('not an address')).rejects.toMatchObject({ kind: 'usage' });
    await expect(connect(host.network.addresses()[0]!)).rejects.toEqual(failed('self'));
    await expect(connect(address!.replace(/12D3.*/, unknown))).rejects.toEqual(failed('other-peer'));
    await other.network.stop();
    await expect(connect(address!)).rejects.toEqual(failed('refused'));
    const hangsUp = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve) => hangsUp.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void hangsUp.close());
    const { port } = hangsUp.address() as { port: number };
    await expect(connect(`/ip4/127.0.0.1/tcp/${port}`)).rejects.toEqual(failed('hung-up'));
    await expect(connect('/ip4/127.0.0.1/udp/4001/quic-v1')).rejects.toEqual(failed('unsupported'));
    const signal = AbortSignal.abort();
    await expect(host.network.connect(address!, { signal })).rejects.toBe(signal.reason);
    expect(() => host.network.addPersistentPeer('not an address')).toThrow(failed('malformed'));
  });

  it('is reported to listeners, as is disconnecting', async () => {
    const [a, b] = await Promise.all([startHost(), startHost()]);
    const events: string[] = [];
    const leave = b.network.onPeer(({ type, peer }) => events.push(`${type} ${peer}`));
    await join(a, b);
    await a.network.stop();
    await eventually(() => events.length === 2);
    expect(events).toEqual([`connect ${a.peer}`, `disconnect ${a.peer}`]);
    leave();
  });

  it('ends when a host disconnects a peer, which may come back', async () => {
    const [a, b] = await Promise.all([startHost(), startHost()]);
    await join(a, b);
    b.network.disconnect(a.peer);
    await eventually(() => a.network.peers().length === 0 && b.network.peers().length === 0);
    await join(a, b);
    await eventually(() => b.network.peers().length === 1);
  });

  it('is refused to peers without an Ed25519 key', async () => {
    const host = await startHost();
    const other = await createLibp2p({
      privateKey: await generateKeyPair('secp256k1'),
      addresses: { listen: [LOOPBACK] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
    });
    onTestFinished(() => other.stop());
    await expect(
      host.network.connect(other.getMultiaddrs()[0]!.toString(), { signal: soon() }),
    ).rejects.toMatchObject({ code: 'CONNECT_FAILED' });
    expect(host.network.peers()).toEqual([]);
  });

  it('accepts thirty peers of one address at once', async () => {
    const hub = await startHost();
    const raws = await Promise.all(Array.from({ length: 30 }, () => startRaw()));
    await Promise.all(raws.map((raw) => rawStream(raw, hub, '/ipfs/ping/1.0.0')));
    await eventually(() => hub.network.peers().length === 30);
  });
});

it('counts traffic: at least the payload, and little more', async () => {
  const [a, b] = await Promise.all([startHost(), startHost()]);
  await join(a, b);
  const bytes = randomBytes(4_000_000);
  const digest = createHash('sha256').update(bytes).digest('hex');
  await b.blobs.put(bytes);
  await a.network.fetchBlob({ digest, size: bytes.length }, { holders: [b.peer], signal: soon() });
  const { received } = a.network.traffic();
  expect(received).toBeGreaterThan(bytes.length);
  expect(received).toBeLessThan(1.02 * bytes.length);
  // The end of the connection does not reset the counts. Each side counts the same bytes.
  await a.network.stop();
  await eventually(() => b.network.peers().length === 0);
  expect(a.network.traffic().received).toBeGreaterThanOrEqual(received);
  await eventually(() => b.network.traffic().sent >= a.network.traffic().received);
});

it('throws LISTEN_FAILED if the address is in use', async () => {
  const host = await startHost();
  const taken = host.network.addresses()[0]!.replace(/\/p2p\/.*/, '');
  await expect(startHost({ listen: [taken] })).rejects.toMatchObject({ code: 'LISTEN_FAILED' });
});

it('stops once if stopped twice', async () => {
  const host = await startHost();
  await Promise.all([host.network.stop(), host.network.stop()]);
  await host.network.stop();
});

it('ends running calls and fetches with HOST_STOPPED when it stops', async () => {
  const [a, b] = await Promise.all([startHost(), startHost()]);
  await join(a, b);
  let asked = false;
  b.network.handle('head', () => {
    asked = true;
    return new Promise(() => {});
  });
  const stopped = withCode('HOST_STOPPED');
  const call = expect(
    a.network.request(b.peer, 'head', { job: 'ab'.repeat(32) }, { signal: soon() }),
  ).rejects.toEqual(stopped);
  const ref = { digest: 'cd'.repeat(32), size: 10 };
  const unknown = (await startHost()).peer;
  const fetch = expect(a.network.fetchBlob(ref, { holders: [unknown], signal: soon() })).rejects.toEqual(
    stopped,
  );
  await eventually(() => asked);
  await a.network.stop();
  await Promise.all([call, fetch]);
});

it('survives peers that disconnect at any step of any protocol', async () => {
  const uncaught: unknown[] = [];
  const onUncaught = (error: unknown): void => {
    uncaught.push(error);
  };
  process.on('uncaughtException', onUncaught);
  process.on('unhandledRejection', onUncaught);
  onTestFinished(() => {
    process.off('uncaughtException', onUncaught);
    process.off('unhandledRejection', onUncaught);
  });
  const host = await startHost();
  host.network.handle('head', async () => ({ head: null, keys: testKeys() }));
  await host.blobs.put(randomBytes(2_000_000));
  for (let round = 0; round < 30; round++) {
    const raw = await startRaw();
    const streams = await Promise.all([
      rawStream(raw, host, RPC_PROTOCOL),
      rawStream(raw, host, BLOB_PROTOCOL),
      rawStream(raw, host, '/ipfs/ping/1.0.0'),
    ]);
    for (const stream of streams) stream.send(randomBytes(1 + (round % 7) * 5));
    if (round % 3 === 0) streams[round % 2]!.abort(new Error('off'));
    if (round % 3 === 1) for (const connection of raw.getConnections()) connection.abort(new Error('off'));
    await raw.stop();
  }
  await eventually(() => host.network.peers().length === 0);
  expect(uncaught).toEqual([]);
});
