import { connect, type Socket } from 'node:net';
import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import type { Libp2p } from 'libp2p';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../common/time/system-clock.ts';
import { openRangeStream } from '../../net/blobs/range-stream.ts';
import { streamsOf } from '../../net/libp2p/streams.ts';
import { noMeter, type Refusal } from '../../net/meter.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import { BLOB_FRAME_BYTES, BLOB_RANGE_BYTES } from '../../protocol/limits.ts';
import { BLOB_PROTOCOL, RPC_PROTOCOL } from '../../protocol/requests/rpc.ts';
import { eventually } from '../utils/eventually.ts';
import { join, startAttacker, startHost, type TestHost } from '../utils/swarm/hosts.ts';
import { testKeys } from '../utils/swarm/job-keys.ts';

/**
 * Returns the addresses of attackers that try to take every place of a queue. Honest peers use the address 127.0.0.1, and
 * attackers use the addresses after it. Only Linux lets a process use these addresses without configuring them first.
 */
const attackers = (addresses: number): string[] =>
  Array.from({ length: addresses }, (_, i) => `127.0.0.${i + 2}`);

const job = 'ab'.repeat(32);

/** Time limit of a test. Hundreds of streams take long when the machine is busy. */
const PATIENCE_MS = 100_000;
const patiently = (): AbortSignal => AbortSignal.timeout(PATIENCE_MS);
const soonOrLater = <T>(look: () => T | Promise<T>): Promise<NonNullable<T>> =>
  eventually(look, { timeout: PATIENCE_MS });

/** A host that counts its refusals by queue and reason. */
async function startTarget(): Promise<TestHost & { refusals: Map<string, number> }> {
  const refusals = new Map<string, number>();
  const refusal = ({ queue, reason }: Refusal): void => {
    const key = `${queue} ${reason}`;
    refusals.set(key, (refusals.get(key) ?? 0) + 1);
  };
  const host = await startHost({ meter: { ...noMeter, refusal } });
  host.network.handle('head', async () => ({ head: null, keys: testKeys() }));
  return { ...host, refusals };
}

/** Opens streams from an attacker, and opens each again whenever the target ends it, until the test is over. */
async function occupy(
  attacker: Libp2p,
  target: TestHost,
  { protocol, streams, bytes }: { protocol: string; streams: number; bytes?: Uint8Array },
): Promise<void> {
  let over = false;
  onTestFinished(() => {
    over = true;
  });
  const hold = async (): Promise<void> => {
    while (!over) {
      try {
        const stream = await attacker.dialProtocol(peerIdFromString(target.peer), protocol, {
          signal: patiently(),
          maxOutboundStreams: 1000,
        });
        stream.pause();
        if (bytes) stream.send(bytes);
        await new Promise((resolve) => stream.addEventListener('close', resolve, { once: true }));
      } catch {
        // The target refused the stream.
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  await attacker.dial(multiaddr(target.network.addresses()[0]!), { signal: patiently() });
  // Streams that arrive before the target's connection is complete would end the connection.
  await soonOrLater(() => target.network.peers().some(({ peer }) => peer === attacker.peerId.toString()));
  for (let i = 0; i < streams; i++) void hold();
}

const newHosts = (count: number): Promise<TestHost[]> =>
  Promise.all(Array.from({ length: count }, () => startHost()));

/** Starts attackers that hold calls open, until the target refuses some. */
async function crowdCalls(target: Awaited<ReturnType<typeof startTarget>>, from: string[]): Promise<void> {
  const nodes = await Promise.all(
    Array.from({ length: 32 }, (_, i) => startAttacker(from[i % from.length]!)),
  );
  await Promise.all(nodes.map((node) => occupy(node, target, { protocol: RPC_PROTOCOL, streams: 16 })));
  await soonOrLater(() => (target.refusals.get('calls full') ?? 0) > 0);
}

async function expectServed(host: TestHost, target: TestHost): Promise<void> {
  await join(host, target, PATIENCE_MS);
  const call = host.network.request(target.peer, 'head', { job }, { signal: patiently() });
  expect(await call).toEqual({ head: null, keys: testKeys() });
}

describe.runIf(process.platform === 'linux').each([1, 16])(
  'attackers on %i addresses',
  { timeout: PATIENCE_MS },
  (addresses) => {
    it('cannot keep others from connecting with sockets that send nothing', async () => {
      const target = await startTarget();
      const port = Number(/tcp\/(\d+)/.exec(target.network.addresses()[0]!)![1]);
      const sockets = new Set<Socket>();
      let over = false;
      onTestFinished(() => {
        over = true;
        for (const socket of sockets) socket.destroy();
      });
      const hold = (localAddress: string): void => {
        if (over) return;
        const socket = connect({ host: '127.0.0.1', port, localAddress });
        sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => {
          sockets.delete(socket);
          setTimeout(() => hold(localAddress), 50);
        });
      };
      for (let i = 0; i < 640; i++) hold(attackers(addresses)[i % addresses]!);
      await soonOrLater(() => (target.refusals.get('handshakes full') ?? 0) > 0);
      const honest = await newHosts(10);
      for (const host of honest) await join(host, target, PATIENCE_MS);
      expect(target.network.peers().length).toBe(10);
    });

    it('cannot keep others from calling with streams that send nothing', async () => {
      const target = await startTarget();
      await crowdCalls(target, attackers(addresses));
      for (const host of await newHosts(10)) await expectServed(host, target);
    });

    it('cannot keep others from fetching with ranges that they never read', async () => {
      const target = await startTarget();
      const bytes = Buffer.alloc(8 * BLOB_RANGE_BYTES, 7);
      const ref = { digest: sha256(bytes), size: bytes.length };
      await target.blobs.put(bytes);
      const nodes = await Promise.all(
        Array.from({ length: 16 }, (_, i) => startAttacker(attackers(addresses)[i % addresses]!)),
      );
      const request = encodeCbor({ digest: ref.digest, offset: 0, length: BLOB_RANGE_BYTES });
      const framed = Buffer.concat([Buffer.from([request.length]), request]);
      await Promise.all(
        nodes.map((node) => occupy(node, target, { protocol: BLOB_PROTOCOL, streams: 8, bytes: framed })),
      );
      await soonOrLater(() => (target.refusals.get('ranges full') ?? 0) > 0);
      const honest = await newHosts(3);
      for (const host of honest) {
        await join(host, target, PATIENCE_MS);
        await host.network.fetchBlob(ref, { holders: [target.peer], signal: patiently() });
      }
    });
  },
);

describe.runIf(process.platform === 'linux')(
  'a node with a limited bandwidth',
  { timeout: PATIENCE_MS },
  () => {
    it('gives its coordinator half of its bandwidth or more while strangers on 16 addresses pull', async () => {
      const [node, coordinator] = await Promise.all([startTarget(), startHost()]);
      const RATE = 4 * BLOB_RANGE_BYTES;
      node.network.limitBandwidth({ upload: RATE, download: null });
      node.network.addPersistentPeer(coordinator.network.addresses()[0]!);
      await soonOrLater(() => node.network.peers().some(({ peer }) => peer === coordinator.peer));
      const blobs = [1, 2].map((fill) => Buffer.alloc(RATE, fill));
      for (const bytes of blobs) await node.blobs.put(bytes);
      const fetch = async (bytes: Uint8Array): Promise<void> => {
        const ref = { digest: sha256(bytes), size: bytes.length };
        await coordinator.network.fetchBlob(ref, { holders: [node.peer], signal: patiently() });
      };
      // This fetch uses up the burst that the limit allows at the start.
      await fetch(blobs[0]!);
      const digest = sha256(blobs[0]!);
      let pulled = 0;
      const pull = async (attacker: Libp2p): Promise<void> => {
        const deps = { streams: streamsOf(attacker), clock: systemClock };
        const stream = await openRangeStream(node.peer, deps, patiently());
        const target = new Uint8Array(BLOB_RANGE_BYTES);
        const onArrival = (): void => {
          pulled += BLOB_FRAME_BYTES;
        };
        for (;;) {
          const request = { digest, offset: 0, length: BLOB_RANGE_BYTES };
          await stream
            .range(request, { size: RATE, target, onArrival }, patiently())
            .catch(() => new Promise((resolve) => setTimeout(resolve, 50)));
        }
      };
      const strangers = await Promise.all(attackers(16).map(startAttacker));
      for (const stranger of strangers) {
        await stranger.dial(multiaddr(node.network.addresses()[0]!), { signal: patiently() });
        // When the test ends, the stream closes, and this call fails.
        for (let i = 0; i < 4; i++) void pull(stranger).catch(() => {});
      }
      await soonOrLater(() => pulled > RATE);
      const before = pulled;
      await fetch(blobs[1]!);
      expect(pulled - before).toBeLessThan(RATE);
    });

    it('serves a stranger at once although another address has filled its queue', async () => {
      const node = await startTarget();
      const RATE = BLOB_RANGE_BYTES / 2;
      node.network.limitBandwidth({ upload: RATE, download: null });
      const bytes = Buffer.alloc(BLOB_RANGE_BYTES, 3);
      await node.blobs.put(bytes);
      const open = async (from: Libp2p) => {
        await from.dial(multiaddr(node.network.addresses()[0]!), { signal: patiently() });
        return openRangeStream(node.peer, { streams: streamsOf(from), clock: systemClock }, patiently());
      };
      const request = { digest: sha256(bytes), offset: 0, length: BLOB_RANGE_BYTES };
      const range = { size: bytes.length, target: new Uint8Array(BLOB_RANGE_BYTES), onArrival: () => {} };
      const [crowdsAddress, address] = attackers(2);
      let refused = 0;
      // The queue holds two seconds of the rate, which are 16 pieces. So the last of these 20 streams are refused.
      for (let identity = 0; identity < 5; identity++) {
        const attacker = await startAttacker(crowdsAddress!);
        for (let i = 0; i < 4; i++) {
          const stream = await open(attacker);
          const pull = async (): Promise<void> => {
            for (;;) {
              await stream.range(request, range, patiently()).catch(() => {
                refused++;
                return new Promise((resolve) => setTimeout(resolve, 50));
              });
            }
          };
          // This call goes on until the test ends.
          void pull();
        }
      }
      await soonOrLater(() => refused > 0);
      const alone = await open(await startAttacker(address!));
      await alone.range({ ...request, length: BLOB_FRAME_BYTES }, range, patiently());
    });
  },
);

describe('attackers on the address of honest peers', { timeout: PATIENCE_MS }, () => {
  it('cannot keep another identity from calling', async () => {
    const target = await startTarget();
    await crowdCalls(target, ['127.0.0.1']);
    for (const host of await newHosts(5)) await expectServed(host, target);
  });

  it('cannot take the places that are reserved for known peers', async () => {
    const target = await startTarget();
    const known = await newHosts(5);
    target.network.reserveFor((peer) => known.some((host) => host.peer === peer));
    await crowdCalls(target, ['127.0.0.1']);
    const calls = known.map(async (host) => {
      await join(host, target, PATIENCE_MS);
      const call = () => host.network.request(target.peer, 'head', { job }, { signal: patiently() });
      await Promise.all(Array.from({ length: 5 }, call));
    });
    await Promise.all(calls);
  });
});
