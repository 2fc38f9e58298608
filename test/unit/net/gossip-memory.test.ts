import { describe, expect, it, vi } from 'vitest';
import { GossipMemory, PERMIT_BYTES } from '../../../net/gossip-memory.ts';
import { noMeter, type Refusal } from '../../../net/meter.ts';
import { Shares } from '../../../net/shares.ts';
import { GOSSIP_RPC_BYTES } from '../../../protocol/limits.ts';
import { ManualClock } from '../../utils/manual-clock.ts';

const MiB = 1024 * 1024;

/** Returns the bytes that give the length of an RPC, as they come before the RPC. */
function prefix(length: number): Uint8Array {
  const bytes: number[] = [];
  let left = length;
  for (; left >= 0x80; left = Math.floor(left / 0x80)) bytes.push((left & 0x7f) | 0x80);
  return Uint8Array.of(...bytes, left);
}

function memory() {
  const refusals: Refusal[] = [];
  const shares = new Shares({
    meter: { ...noMeter, refusal: (refusal) => void refusals.push(refusal) },
  });
  const clock = new ManualClock();
  const gossip = new GossipMemory({ permits: shares.gossip, clock });
  const signal = new AbortController().signal;
  /** Starts an RPC of 4 MiB of which only the first byte arrives. Settles when there is memory for it. */
  const begin = (address: string, peer = address, length = 4 * MiB) => {
    const withdrawn = vi.fn();
    const rpc = gossip.of({ address, peer }, withdrawn);
    return { rpc, withdrawn, begun: rpc.add([prefix(length), Uint8Array.of(1)], signal) };
  };
  return { shares, clock, gossip, begin, refusals, signal };
}

describe('memory of gossip RPCs', () => {
  it('is not counted for small RPCs, in whatever pieces they arrive', async () => {
    const { shares, gossip, signal } = memory();
    const rpc = gossip.of({ address: 'a', peer: 'a' }, () => {});
    const bytes = Buffer.concat([prefix(500), Buffer.alloc(500), prefix(20_000), Buffer.alloc(20_000)]);
    for (const byte of bytes) await rpc.add([Uint8Array.of(byte)], signal);
    await rpc.add([bytes, bytes], signal);
    expect(shares.gossip.size).toBe(0);
  });

  it('is counted from the prefix of an RPC until the RPC is handled', async () => {
    const { shares, gossip, signal } = memory();
    const rpc = gossip.of({ address: 'a', peer: 'a' }, () => {});
    const length = 3 * PERMIT_BYTES;
    const start = prefix(length);
    await rpc.add([start.subarray(0, 2)], signal);
    expect(shares.gossip.size).toBe(0);
    await rpc.add([start.subarray(2)], signal);
    expect(shares.gossip.size).toBe(3);
    rpc.handled();
    await rpc.add([new Uint8Array(length - 1)], signal);
    rpc.handled();
    expect(shares.gossip.size).toBe(3);
    await rpc.add([new Uint8Array(1)], signal);
    expect(shares.gossip.size).toBe(3);
    rpc.handled();
    expect(shares.gossip.size).toBe(0);
    await rpc.add([start, new Uint8Array(5)], signal);
    rpc.release();
    expect(shares.gossip.size).toBe(0);
  });

  it('is 128 MiB at most, whatever peers announce, and peers that get none wait', async () => {
    const { shares, clock, begin } = memory();
    const all = Array.from({ length: 32 }, () => begin('10.0.0.1'));
    await Promise.all(all.map(({ begun }) => begun));
    expect(shares.gossip.size * PERMIT_BYTES).toBe(128 * MiB);
    const begun = vi.fn();
    void begin('10.0.0.1').begun.then(begun);
    clock.advance(250);
    await new Promise(setImmediate);
    expect(begun).not.toHaveBeenCalled();
    all[0]!.rpc.release();
    clock.advance(250);
    await new Promise(setImmediate);
    expect(begun).toHaveBeenCalled();
    expect(shares.gossip.size * PERMIT_BYTES).toBe(128 * MiB);
  });

  it.each([1, 16])(
    'of attackers on %i addresses leaves room for other addresses, and for known peers first of all',
    async (addresses) => {
      const { shares, begin, refusals } = memory();
      shares.isKnown = (peer) => peer.startsWith('known');
      for (let i = 0; i < 1280; i++) void begin(`10.0.0.${i % addresses}`, `attacker ${i}`).begun;
      expect(shares.gossip.size).toBeLessThanOrEqual(512);
      expect(shares.gossip.size).toBeGreaterThan(512 - 16);
      const known = Array.from({ length: 24 }, (_, i) => begin('10.1.0.1', `known ${i}`));
      await Promise.all(known.map(({ begun }) => begun));
      const stranger = begin('10.2.0.1', 'stranger', MiB / 2);
      await stranger.begun;
      expect(known.some(({ withdrawn }) => withdrawn.mock.calls.length > 0)).toBe(false);
      expect(stranger.withdrawn).not.toHaveBeenCalled();
      expect(refusals.filter(({ reason }) => reason === 'withdrawn').length).toBeGreaterThan(0);
    },
  );

  it('is neither claimed nor waited for if an RPC is larger than allowed, because gossipsub ends its stream', async () => {
    const { shares, begin } = memory();
    for (const length of [GOSSIP_RPC_BYTES + 1, 1024 * MiB, 2 ** 48]) {
      await begin('10.0.0.1', 'greedy', length).begun;
      expect(shares.gossip.size).toBe(0);
    }
  });

  it('is no longer waited for when the stream closes', async () => {
    const { clock, gossip, begin } = memory();
    for (let i = 0; i < 32; i++) await begin('10.0.0.1', 'same').begun;
    const closed = new AbortController();
    const rpc = gossip.of({ address: '10.0.0.1', peer: 'same' }, () => {});
    const begun = rpc.add([prefix(4 * MiB), Uint8Array.of(1)], closed.signal);
    closed.abort(new Error('closed'));
    clock.advance(250);
    await expect(begun).rejects.toBe(closed.signal.reason);
  });
});
