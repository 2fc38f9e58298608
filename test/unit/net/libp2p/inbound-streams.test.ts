import type { Libp2p } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import { expect, it } from 'vitest';
import { FairPermits } from '../../../../common/limits/fair-permits.ts';
import { RateLimiter } from '../../../../common/limits/rate-limiter.ts';
import { systemClock } from '../../../../common/time/system-clock.ts';
import { mayStrangerOpen, shareStreams } from '../../../../net/libp2p/inbound-streams.ts';
import { noMeter, type Refusal } from '../../../../net/meter.ts';
import { Shares } from '../../../../net/shares.ts';
import { eventually } from '../../../utils/eventually.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';
import { soon, startHost, startRaw } from '../../../utils/swarm/hosts.ts';

/** Numbers of the yamux specification. */
const WINDOW_UPDATE = 1;
const PING = 2;
const SYN = 1;
const RST = 8;

interface RawMuxer {
  send(bytes: Uint8Array): boolean;
  handleFrame(frame: { header: { type: number } }): void;
}

it('shares the inbound streams of all connections between peers, and releases those that end', async () => {
  const target = await startRaw();
  const refusals: string[] = [];
  const streams = new FairPermits(
    { total: 16, reserved: 0, withdraws: 'newest' },
    { knows: () => false, onRefusal: (reason) => refusals.push(reason) },
  );
  const shares = Object.assign(new Shares({ meter: noMeter }), { streams });
  await target.handle('/test/1', () => {}, { maxInboundStreams: 100 });
  shareStreams(target, { shares, clock: systemClock, meter: noMeter });
  const [greedy, modest] = await Promise.all([startRaw(), startRaw()]);
  const open = (from: Libp2p) =>
    from.dialProtocol(target.getMultiaddrs()[0]!, '/test/1', { maxOutboundStreams: 100 });
  await eventually(async () => {
    await open(greedy).catch(() => {});
    return refusals.includes('full');
  });
  const stream = await open(modest);
  await eventually(() => refusals.includes('withdrawn'));
  expect(stream.status).toBe('open');
  expect(streams.size).toBeLessThanOrEqual(16);
  await Promise.all([greedy.stop(), modest.stop()]);
  await eventually(() => streams.size === 0);
});

/**
 * Connects a peer to a host whose time stands still. Returns functions with which the peer sends frames without data.
 */
async function frameSender({ isKnown = false } = {}) {
  const refusals: Refusal[] = [];
  const meter = { ...noMeter, refusal: (refusal: Refusal) => void refusals.push(refusal) };
  const host = await startHost({ meter, clock: new ManualClock() });
  host.network.reserveFor(() => isKnown);
  const raw = await startRaw();
  const connection = await raw.dial(multiaddr(host.network.addresses()[0]!), { signal: soon() });
  await eventually(() => host.network.peers().length === 1);
  const { muxer } = connection as unknown as { muxer: RawMuxer };
  const handleFrame = muxer.handleFrame.bind(muxer);
  // Drops the answers to pings. The library did not send these pings, and would close the connection because of the
  // answers.
  muxer.handleFrame = (frame) => (frame.header.type === PING ? undefined : handleFrame(frame));
  let id = 10_001;
  /** Opens and resets streams. */
  const open = (count: number): void => {
    const frames = Buffer.alloc(24 * count);
    for (let at = 0; at < frames.length; at += 24, id += 2) {
      for (const [start, flag] of [
        [at, SYN],
        [at + 12, RST],
      ] as const) {
        frames[start + 1] = WINDOW_UPDATE;
        frames.writeUInt16BE(flag, start + 2);
        frames.writeUInt32BE(id, start + 4);
      }
    }
    muxer.send(frames);
  };
  const ping = (count: number): void => {
    const frames = Buffer.alloc(12 * count);
    for (let at = 0; at < frames.length; at += 12) {
      frames[at + 1] = PING;
      frames.writeUInt16BE(SYN, at + 2);
    }
    muxer.send(frames);
  };
  const isConnected = (): boolean => host.network.peers().length === 1;
  const refused = (): number => refusals.filter(({ reason }) => reason === 'rate').length;
  const answers = (): Promise<number> => pingPeer(raw, host.peer);
  return { open, ping, isConnected, refused, answers };
}

async function pingPeer(raw: Libp2p, peer: string): Promise<number> {
  const stream = await raw.dialProtocol(peerIdFromString(peer), '/ipfs/ping/1.0.0', { signal: soon() });
  stream.send(new Uint8Array(32));
  await new Promise((resolve) => stream.addEventListener('message', resolve, { once: true }));
  return 1;
}

it('resets streams that a stranger opens too fast, and closes the connection of one that goes on', async () => {
  const { open, isConnected, refused } = await frameSender();
  open(450);
  open(80);
  await eventually(() => refused() > 0);
  expect(refused()).toBeLessThanOrEqual(80);
  expect(isConnected()).toBe(true);
  open(200);
  await eventually(() => !isConnected());
  expect(refused()).toBeLessThanOrEqual(101);
});

it('leaves an address its own streams while strangers at many others open as many as they can', () => {
  const clock = new ManualClock();
  const limiter = new RateLimiter({ clock });
  const attackers = Array.from({ length: 16 }, (_, i) => `192.0.2.${i}`);
  let opened = 0;
  const attack = (): void => {
    for (let n = 0; n < 100; n++)
      for (const address of attackers) opened += +mayStrangerOpen(limiter, address);
  };
  for (let second = 0; second < 8; second++, clock.advance(1000)) attack();
  opened = 0;
  for (let second = 0; second < 8; second++, clock.advance(1000)) {
    attack();
    const honest = Array.from({ length: 30 }, () => mayStrangerOpen(limiter, '198.51.100.1'));
    expect(honest.every(Boolean)).toBe(true);
  }
  // In each second, each of the 16 addresses may open 30 streams, and all addresses together 240 more.
  expect(opened / 8).toBeGreaterThan(700);
  expect(opened / 8).toBeLessThanOrEqual(721);
});

it('lets known peers open more streams', async () => {
  const { open, isConnected, refused, answers } = await frameSender({ isKnown: true });
  open(3000);
  expect(await answers()).toBe(1);
  expect(isConnected()).toBe(true);
  expect(refused()).toBe(0);
});

it('closes the connection of a peer that sends too many pings', async () => {
  const { ping, isConnected, answers } = await frameSender();
  ping(90);
  expect(await answers()).toBe(1);
  expect(isConnected()).toBe(true);
  ping(50);
  await eventually(() => !isConnected());
});
