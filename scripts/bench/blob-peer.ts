/**
 * One end of the blob benchmark, in a separate process. `host` uses the project's host, `bare` a stream between two
 * default libp2p nodes, `tuned` a stream between two nodes with the host's settings.
 *
 *   node scripts/bench/blob-peer.ts (host|bare|tuned) FOLDER [BYTES]
 *
 * With BYTES, the process offers that many bytes and sends the offer to its parent. Without BYTES, it fetches each
 * offer that it receives, and answers with the milliseconds that the fetch took. It answers the message `cpu` with the
 * milliseconds of processor time that it has used so far.
 */

import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Libp2p, Stream } from '@libp2p/interface';
import { noise } from '@libp2p/noise';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { limitYoungGeneration } from '../../common/heap.ts';
import type { Logger } from '../../common/logger.ts';
import { systemClock } from '../../common/time/system-clock.ts';
import { createHost } from '../../net/host.ts';
import { loadIdentity } from '../../net/identity.ts';
import { createNode } from '../../net/libp2p/create.ts';
import { Traffic } from '../../net/libp2p/traffic.ts';
import { noMeter } from '../../net/meter.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import { Shares } from '../../net/shares.ts';
import { FileBlobStore } from '../../storage/blob-store.ts';

/** A blob that a peer offers: the address and id of the peer, and the digest and size of the blob. */
export interface Offer {
  address: string;
  peer: string;
  digest: string;
  size: number;
}

const BARE_PROTOCOL = '/lora-swarm-bench/bare/1';
const CHUNK_BYTES = 64 * 1024;
const LOOPBACK = '/ip4/127.0.0.1/tcp/0';
const PATIENCE_MS = 300_000;

const silent: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };
const signal = AbortSignal.timeout(PATIENCE_MS);

async function openHost(home: string): Promise<{ host: SwarmNetwork; blobs: FileBlobStore }> {
  await mkdir(home, { recursive: true });
  const identity = await loadIdentity(home);
  const blobs = await FileBlobStore.open({ home }, { clock: systemClock });
  const options = { listen: [LOOPBACK], bootstrap: [], mdns: [], home, agent: 'lora-swarm-bench' };
  const host = await createHost(options, { identity, blobs, log: silent, clock: systemClock });
  host.serveBlobs(() => true);
  return { blobs, host };
}

type Kind = 'bare' | 'tuned';

async function openNode(kind: Kind, home: string): Promise<Libp2p> {
  if (kind === 'tuned') {
    limitYoungGeneration();
    await mkdir(home, { recursive: true });
    const { privateKey } = await loadIdentity(home);
    const options = { listen: [LOOPBACK], mdns: [], agent: 'lora-swarm-bench' };
    const deps = { traffic: new Traffic(), clock: systemClock, meter: noMeter };
    const shares = new Shares({ meter: noMeter });
    const node = await createNode(options, { privateKey, shares, ...deps });
    await node.start();
    return node;
  }
  return createLibp2p({
    addresses: { listen: [LOOPBACK] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
  });
}

/** Sends `size` bytes as fast as the stream accepts them. */
async function pour(stream: Stream, size: number): Promise<void> {
  const chunk = randomFillSync(Buffer.alloc(CHUNK_BYTES));
  for (let left = size; left > 0; left -= chunk.length) {
    if (!stream.send(chunk.subarray(0, Math.min(chunk.length, left))))
      await once(stream, 'drain', { signal });
  }
  await stream.close();
}

async function offerBlob(folder: string, size: number): Promise<Offer> {
  const { host, blobs } = await openHost(folder);
  const file = join(folder, 'source');
  await writeFile(file, randomFillSync(Buffer.allocUnsafe(size)));
  const { digest } = await blobs.importFile(file, { signal });
  await rm(file);
  return { address: host.addresses()[0]!, peer: host.signer.peerId, digest, size };
}

async function offerStream(kind: Kind, folder: string, size: number): Promise<Offer> {
  const node = await openNode(kind, folder);
  await node.handle(BARE_PROTOCOL, (stream) => pour(stream, size));
  return { address: node.getMultiaddrs()[0]!.toString(), peer: node.peerId.toString(), digest: '', size };
}

/**
 * Returns a function that fetches the blob of an offer into the blob store, which verifies it and writes it durably.
 */
async function blobFetcher(folder: string): Promise<(offer: Offer) => Promise<number>> {
  const { host, blobs } = await openHost(folder);
  return async (offer) => {
    await host.connect(offer.address, { signal });
    const start = performance.now();
    await host.fetchBlob(offer, { holders: [offer.peer], signal });
    const ms = performance.now() - start;
    await blobs.delete(offer.digest);
    return ms;
  };
}

/** Returns a function that receives the bytes of an offer over a libp2p stream, and discards them. */
async function streamFetcher(kind: Kind, folder: string): Promise<(offer: Offer) => Promise<number>> {
  const node = await openNode(kind, folder);
  return async (offer) => {
    const connection = await node.dial(multiaddr(offer.address), { signal });
    const start = performance.now();
    const stream = await connection.newStream(BARE_PROTOCOL, { signal });
    let received = 0;
    stream.addEventListener('message', ({ data }) => {
      received += data.byteLength;
    });
    await once(stream, 'remoteCloseWrite', { signal });
    const ms = performance.now() - start;
    if (received !== offer.size)
      throw new Error(`the bare stream delivered ${received} of ${offer.size} bytes`);
    await stream.close();
    return ms;
  };
}

async function main([kind, folder = '', size]: readonly string[]): Promise<void> {
  const stream = kind === 'host' ? null : (kind as Kind);
  const tell = (message: Offer | number): void => {
    process.send?.(message);
  };
  process.on('disconnect', () => process.exit(0));
  process.on('message', (message) => {
    if (message !== 'cpu') return;
    const { user, system } = process.cpuUsage();
    tell((user + system) / 1000);
  });
  if (size !== undefined) {
    const bytes = Number(size);
    tell(stream === null ? await offerBlob(folder, bytes) : await offerStream(stream, folder, bytes));
    return;
  }
  const fetch = stream === null ? await blobFetcher(folder) : await streamFetcher(stream, folder);
  process.on('message', (message: Offer | 'cpu') => {
    if (message !== 'cpu') void fetch(message).then(tell);
  });
  tell(0);
}

await main(process.argv.slice(2));
