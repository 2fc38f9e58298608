import { noise } from '@libp2p/noise';
import { ping } from '@libp2p/ping';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { expect, it, onTestFinished } from 'vitest';
import { eventually } from '../../../utils/eventually.ts';
import { rawStream, soon, startHost, startRaw } from '../../../utils/swarm/hosts.ts';

const PING = '/ipfs/ping/1.0.0';
const MiB = 2 ** 20;

it("answers the pings of libp2p's own service", async () => {
  const host = await startHost();
  const node = await createLibp2p({
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { ping: ping() },
  });
  onTestFinished(() => node.stop());
  const address = multiaddr(host.network.addresses()[0]!);
  expect(await node.services.ping.ping(address, { signal: soon() })).toBeGreaterThanOrEqual(0);
  expect(await node.services.ping.ping(address, { signal: soon() })).toBeGreaterThanOrEqual(0);
});

it('echoes everything to a peer that reads, and closes the stream when the peer does', async () => {
  const host = await startHost();
  const stream = await rawStream(await startRaw(), host, PING);
  let echoed = 0;
  stream.addEventListener('message', ({ data }) => {
    echoed += data.byteLength;
  });
  for (let i = 0; i < 64; i++) stream.send(new Uint8Array(64 * 1024));
  await eventually(() => echoed === 4 * MiB);
  await stream.close();
  await eventually(() => stream.status === 'closed');
});

it('takes little from a peer that does not read the echo', async () => {
  const host = await startHost();
  const stream = await rawStream(await startRaw(), host, PING);
  stream.pause();
  const before = host.network.traffic().received;
  for (let i = 0; i < 512; i++) stream.send(new Uint8Array(64 * 1024));
  await eventually(() => host.network.traffic().received - before > 0.4 * MiB);
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(host.network.traffic().received - before).toBeLessThan(6 * MiB);
  expect(stream.writeBufferLength).toBeGreaterThan(24 * MiB);
});
