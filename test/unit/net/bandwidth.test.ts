import { randomBytes } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { RateLimit } from '../../../net/bandwidth.ts';
import { type BandwidthClaimant, ByteQueue, RANKS, type Rank } from '../../../net/byte-queue.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import { ManualClock } from '../../utils/manual-clock.ts';
import { join, soon, startHost } from '../../utils/swarm/hosts.ts';

const KB = 1_000;
const MiB = 1024 * 1024;

let clock: ManualClock;
let total: number;
let limit: RateLimit;
const live = new AbortController().signal;

beforeEach(() => {
  clock = new ManualClock();
  total = 0;
  limit = new RateLimit({ clock, total: () => total });
});

/** Advances the clock in small steps, and lets waiting code run after each. */
async function pass(ms: number, on = clock): Promise<void> {
  for (let passed = 0; passed < ms; passed += 50) {
    on.advance(50);
    for (let i = 0; i < 5; i++) await turn();
  }
}

describe('a limit of 100 kB/s', () => {
  beforeEach(() => {
    limit.rate = 100 * KB;
  });

  /** Takes bytes again and again. Returns a function that gives the bytes so far. */
  function transfer(bytes: number, from?: BandwidthClaimant): () => number {
    let sum = 0;
    const run = async (): Promise<void> => {
      for (;;) {
        await limit.take(bytes, live, from);
        sum += bytes;
        total += bytes;
      }
    };
    void run();
    return () => sum;
  }

  it('lets that many bytes through, whatever the size of the pieces and the number of transfers', async () => {
    const sums = [transfer(10 * KB), transfer(64 * KB), transfer(KB)];
    const all = (): number => sums.reduce((sum, one) => sum + one(), 0);
    await pass(2_000);
    const before = all();
    await pass(20_000);
    expect(all() - before).toBeGreaterThan(1_900 * KB);
    expect(all() - before).toBeLessThan(2_100 * KB);
  });

  it('makes up for a pause of at most a second', async () => {
    await pass(60_000);
    const sum = transfer(10 * KB);
    await turn();
    expect(sum()).toBeGreaterThanOrEqual(100 * KB);
    expect(sum()).toBeLessThanOrEqual(110 * KB);
  });

  it('counts all other bytes, and blobs wait for them', async () => {
    const sum = transfer(10 * KB);
    await pass(2_000);
    const before = sum();
    // Gossip and requests take 60 kB/s.
    for (let second = 0; second < 10; second++) {
      total += 60 * KB;
      await pass(1_000);
    }
    expect(sum() - before).toBeGreaterThan(350 * KB);
    expect(sum() - before).toBeLessThan(450 * KB);
  });

  it('serves better ranks first, and shares the rest fairly between addresses and peers', async () => {
    // The limit lets one piece pass in each step of the clock.
    const PIECE = 5 * KB;
    const stranger = (address: string, peer: string) => ({ rank: 'stranger', address, peer }) as const;
    const crowd = Array.from({ length: 16 }, () => transfer(PIECE, stranger('a crowd', 'x')));
    const neighbour = transfer(PIECE, stranger('a crowd', 'y'));
    const alone = transfer(PIECE, stranger('alone', 'z'));
    await pass(10_000);
    const crowded = crowd.reduce((sum, one) => sum + one(), 0);
    // At the start, a burst goes to the claims that came first. So these shares may be a little smaller than half.
    expect(alone() / (crowded + neighbour() + alone())).toBeGreaterThan(0.4);
    expect(neighbour() / (crowded + neighbour())).toBeGreaterThan(0.4);
    const member = transfer(PIECE, { rank: 'known', address: 'a crowd', peer: 'm' });
    await pass(2_000);
    const before = { member: member(), alone: alone() };
    await pass(2_000);
    expect(alone()).toBe(before.alone);
    const coordinator = transfer(PIECE, { rank: 'own', address: 'a crowd', peer: 'c' });
    await pass(4_000);
    expect(coordinator()).toBeGreaterThan(300 * KB);
    expect(member() - before.member).toBeLessThan(250 * KB);
  });

  it('counts the wait of a peer without the bytes of worse ranks', async () => {
    await limit.take(500 * KB, live);
    for (const rank of ['stranger', 'known'] as const)
      void limit.take(300 * KB, live, { rank, address: 'a', peer: rank });
    const wait = (rank: Rank): number => limit.queuedMs({ rank, address: 'a', peer: rank });
    expect(wait('own')).toBe(0);
    expect(wait('known')).toBe(3_000);
    expect(wait('stranger')).toBe(6_000);
    expect(limit.waitMs({ rank: 'stranger', address: 'a', peer: 'stranger' })).toBe(10_000);
  });

  it('counts one turn of each other address and peer', async () => {
    await limit.take(200 * KB, live);
    const stranger = (address: string, peer: string) => ({ rank: 'stranger', address, peer }) as const;
    for (let i = 0; i < 20; i++) void limit.take(10 * KB, live, stranger('a crowd', 'x'));
    expect(limit.queuedMs(stranger('a crowd', 'x'))).toBe(2_000);
    expect(limit.queuedMs(stranger('a crowd', 'y'))).toBe(100);
    expect(limit.queuedMs(stranger('alone', 'z'))).toBe(100);
    void limit.take(10 * KB, live, stranger('alone', 'z'));
    expect(limit.queuedMs(stranger('alone', 'z'))).toBe(300);
  });

  it('counts no fewer bytes than are granted before further ones, and at most one turn more per address and peer', async () => {
    const claimant = fc.record({
      rank: fc.constantFrom(...RANKS),
      address: fc.constantFrom('a', 'b', 'c'),
      peer: fc.constantFrom('p', 'q', 'r'),
    });
    fc.assert(
      fc.property(fc.array(claimant, { maxLength: 40 }), claimant, (waiting, late) => {
        const queue = new ByteQueue();
        for (const from of waiting) queue.add({ ...from, bytes: 1, grant: () => {} });
        const counted = queue.bytesBefore(late);
        const grant = (): void => {};
        queue.add({ ...late, bytes: 1, grant });
        let before = 0;
        for (let next = queue.shift(); next!.grant !== grant; next = queue.shift()) before++;
        // Among turns with the same number, some may come after the late bytes. The count includes all of them.
        expect(before).toBeLessThanOrEqual(counted);
        expect(before).toBeGreaterThanOrEqual(counted - 8);
      }),
    );
  });

  it('lets waiting bytes go at once when the limit ends', async () => {
    await limit.take(500 * KB, live);
    const waiting = limit.take(300 * KB, live);
    limit.rate = null;
    await waiting;
  });

  it('gives bytes back that were not transferred, also after an abort', async () => {
    await limit.take(500 * KB, live);
    const abort = new AbortController();
    const waiting = limit.take(1_000 * KB, abort.signal);
    abort.abort(new Error('over'));
    await expect(waiting).rejects.toBe(abort.signal.reason);
    expect(limit.waitMs()).toBeCloseTo(4_000);
    expect(clock.due(), 'timers that keep the process running').toEqual([]);
    limit.refund(400 * KB);
    expect(limit.waitMs()).toBe(0);
  });

  it('ends at once, and bytes from the time without a limit do not count later', async () => {
    limit.rate = null;
    await limit.take(1_000_000 * KB, live);
    total += 2_000_000 * KB;
    expect(limit.waitMs()).toBe(0);
    limit.rate = 100 * KB;
    expect(limit.waitMs()).toBe(0);
  });
});

describe('a host with a limit', () => {
  it.each(['upload', 'download'] as const)('%ss blobs at that rate', async (direction) => {
    const bytes = randomBytes(3 * MiB);
    const ref = { digest: sha256(bytes), size: bytes.length };
    const manual = new ManualClock();
    const [fetcher, holder] = await Promise.all([
      startHost(direction === 'download' ? { clock: manual } : {}),
      startHost(direction === 'upload' ? { clock: manual } : {}),
    ]);
    await holder.blobs.put(bytes);
    await join(fetcher, holder);
    holder.network.serveBlobs(() => true);
    const limited = direction === 'upload' ? holder : fetcher;
    const rates = { upload: null, download: null, [direction]: MiB };
    limited.network.limitBandwidth(rates);
    const side = direction === 'upload' ? 'sent' : 'received';
    const start = limited.network.traffic()[side];
    let done = false;
    const fetching = fetcher.network
      .fetchBlob(ref, { holders: [holder.peer], signal: soon() })
      .finally(() => {
        done = true;
      });
    let seconds = 0;
    // On a busy machine, the bytes need more turns of the event loop, and more seconds of the manual clock.
    while (!done) {
      await pass(250, manual);
      seconds += 0.25;
      // The limit is 1 MiB/s. The burst is one second more, and the range of a download that is under way another MiB.
      const most = (seconds + 2) * MiB + 64 * 1024;
      expect(limited.network.traffic()[side] - start).toBeLessThan(most);
    }
    await fetching;
    expect(seconds).toBeGreaterThan(1);
  });
});
