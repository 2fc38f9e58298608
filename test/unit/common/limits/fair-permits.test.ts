import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FairPermits, type FairPermitsOptions } from '../../../../common/limits/fair-permits.ts';

/** Permits and what happened to them. A claim is written "address" or "address/peer". */
function setup(options: Partial<FairPermitsOptions> = {}) {
  const known = new Set<string>();
  const withdrawn: string[] = [];
  const refusals = { full: 0, withdrawn: 0 };
  const permits = new FairPermits(
    { total: 6, reserved: 0, withdraws: 'oldest', ...options },
    { knows: ({ peer }) => known.has(peer), onRefusal: (reason) => refusals[reason]++ },
  );
  const take = (claim: string, name = claim): (() => void) | null => {
    const [address = '', peer = ''] = claim.split('/');
    return permits.take({ address, peer }, () => withdrawn.push(name));
  };
  /** Claims `times` permits and returns how many were granted. */
  const takeMany = (claim: string, times: number): number =>
    Array.from({ length: times }, (_, i) => take(claim, `${claim} ${i}`)).filter(Boolean).length;
  return { permits, known, withdrawn, refusals, take, takeMany };
}

describe('free permits', () => {
  it('all go to one address if no other address claims any', () => {
    const { takeMany, permits, refusals } = setup();
    expect(takeMany('a/x', 10)).toBe(6);
    expect(permits.size).toBe(6);
    expect(refusals).toEqual({ full: 4, withdrawn: 0 });
  });

  it('are those that were released, each once', () => {
    const { take, permits } = setup({ total: 1 });
    const release = take('a');
    expect(take('a')).toBeNull();
    release!();
    release!();
    expect(permits.size).toBe(0);
    expect(take('b')).not.toBeNull();
    release!();
    expect(permits.size).toBe(1);
  });
});

describe('when no permit is free', () => {
  it('the address with the most loses its oldest to one with fewer, until both have the same', () => {
    const { takeMany, withdrawn, refusals, permits } = setup();
    takeMany('a', 6);
    expect(takeMany('b', 10)).toBe(3);
    expect(withdrawn).toEqual(['a 0', 'a 1', 'a 2']);
    expect(takeMany('a', 10)).toBe(0);
    expect(refusals).toEqual({ full: 17, withdrawn: 3 });
    expect(permits.size).toBe(6);
  });

  it('withdraws the newest if the options say so', () => {
    const { takeMany, withdrawn } = setup({ withdraws: 'newest' });
    takeMany('a', 6);
    takeMany('b', 2);
    expect(withdrawn).toEqual(['a 5', 'a 4']);
  });

  it('does not count a withdrawn permit twice when its holder releases it', () => {
    const { take, takeMany, permits } = setup();
    const release = take('a');
    takeMany('a', 5);
    expect(take('b')).not.toBeNull();
    release!();
    expect(permits.size).toBe(6);
  });

  it('the identities of an address divide its share', () => {
    const { takeMany, withdrawn } = setup();
    takeMany('a/greedy', 6);
    expect(takeMany('a/modest', 4)).toBe(3);
    expect(withdrawn).toEqual(['a/greedy 0', 'a/greedy 1', 'a/greedy 2']);
  });

  it('many identities get no more than one for their address', () => {
    const { take, takeMany } = setup();
    for (let i = 0; i < 100; i++) take(`a/${i}`);
    expect(takeMany('b/x', 10)).toBe(3);
    for (let i = 100; i < 200; i++) expect(take(`a/${i}`)).toBeNull();
  });

  it('a newcomer gets one while some address holds two', () => {
    const { take } = setup({ total: 17 });
    for (let i = 0; i < 16; i++) for (let j = 0; j < 5; j++) take(`attacker ${i}`);
    expect(take('newcomer')).not.toBeNull();
  });
});

describe('the reserve', () => {
  it('is lent to strangers until known peers claim it', () => {
    const { known, takeMany, withdrawn } = setup({ reserved: 4 });
    known.add('x');
    expect(takeMany('a/s', 6)).toBe(6);
    expect(takeMany('b/x', 6)).toBe(4);
    expect(withdrawn).toEqual(['a/s 0', 'a/s 1', 'a/s 2', 'a/s 3']);
  });

  it('is no more than the reserve: strangers get the others back', () => {
    const { known, takeMany } = setup({ reserved: 4 });
    known.add('x');
    expect(takeMany('b/x', 10)).toBe(6);
    expect(takeMany('a/s', 10)).toBe(2);
    expect(takeMany('c/s', 10)).toBe(1);
    expect(takeMany('c/x', 10)).toBe(2);
  });

  it('protects a stranger that became known after it had taken its permits', () => {
    const { known, takeMany, withdrawn } = setup({ reserved: 4 });
    takeMany('b/t', 4);
    takeMany('a/s', 2);
    known.add('t');
    expect(takeMany('c/u', 5)).toBe(1);
    expect(withdrawn).toEqual(['a/s 0']);
  });
});

it('never exceeds the total, and never leaves an address with less than its share refused', () => {
  const address = fc.integer({ min: 0, max: 5 });
  const step = fc.record({ address, peer: fc.integer({ min: 0, max: 2 }), release: fc.boolean() });
  const run = fc.array(step, { maxLength: 300 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20 }), fc.nat(20), run, (total, reserve, steps) => {
      const reserved = Math.min(total, reserve);
      const held: { address: number; peer: number; release: () => void }[] = [];
      const isKnown = (peer: number): boolean => peer === 2;
      const count = (of: (one: { address: number; peer: number }) => boolean): number =>
        held.filter(of).length;
      const permits = new FairPermits(
        { total, reserved, withdraws: 'oldest' },
        { knows: ({ peer }) => isKnown(Number(peer)), onRefusal: () => {} },
      );
      for (const { address, peer, release } of steps) {
        const own = held.findIndex((one) => one.address === address && one.peer === peer);
        if (release && own >= 0) {
          held.splice(own, 1)[0]!.release();
          continue;
        }
        const one = { address, peer, release: () => {} };
        const granted = permits.take({ address: String(address), peer: String(peer) }, () => {
          held.splice(held.indexOf(one), 1);
        });
        if (granted) held.push(Object.assign(one, { release: granted }));
        else {
          const mine = isKnown(peer);
          const group = (other: { peer: number }): boolean => isKnown(other.peer) === mine;
          expect(count(group)).toBeGreaterThanOrEqual(mine ? reserved : total - reserved);
          const share = count((other) => group(other) && other.address === address);
          for (let rival = 0; rival <= 5; rival++)
            expect(count((other) => group(other) && other.address === rival)).toBeLessThan(share + 2);
        }
        expect(permits.size).toBe(held.length);
        expect(held.length).toBeLessThanOrEqual(total);
      }
    }),
  );
});
