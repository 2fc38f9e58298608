import { describe, expect, it } from 'vitest';
import { FairTurns } from '../../../../common/limits/fair-turns.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

/** Makes turns on an event loop that the test runs by calling `loop`, and records the order of the turns. */
function line(sliceMs = Infinity) {
  const clock = new ManualClock();
  const loops: (() => void)[] = [];
  const turns = new FairTurns({ sliceMs }, { clock, afterLoop: (callback) => loops.push(callback) });
  const order: string[] = [];
  const claim = async (address: string, peer: string, known = false): Promise<void> => {
    const end = await turns.take({ address, peer, known });
    order.push(end === null ? `${peer} superseded` : peer);
    end?.();
  };
  const loop = (): void => {
    for (const callback of loops.splice(0)) callback();
  };
  return { clock, turns, order, claim, loop };
}

describe('turns', () => {
  it('come at once while no other peer has one', async () => {
    const { order, claim } = line();
    await claim('a', 'a1');
    await claim('a', 'a1');
    expect(order).toEqual(['a1', 'a1']);
  });

  it('go round the addresses, alternately to the one with the fewest claims, and round the peers of an address', async () => {
    const { turns, order, claim } = line();
    const end = await turns.take({ address: 'x', peer: 'x', known: false });
    const claims = ['a1', 'a2', 'a3', 'b1', 'b2', 'c1'].map((peer) => claim(peer[0]!, peer));
    end!();
    await Promise.all(claims);
    expect(order).toEqual(['a1', 'c1', 'b1', 'b2', 'a2', 'a3']);
  });

  it('come almost at once to a peer of its own address, however many claims other addresses make', async () => {
    const { turns, order, claim } = line();
    const end = await turns.take({ address: 'x', peer: 'x', known: false });
    const flood = Array.from({ length: 1_000 }, (_, i) => claim(`address ${i % 16}`, `peer ${i}`));
    const honest = claim('honest', 'honest');
    end!();
    await Promise.all([...flood, honest]);
    expect(order.indexOf('honest')).toBeLessThan(2);
  });

  it('come to an address with many claims although others have few all the time', async () => {
    const { turns, order, claim } = line();
    const end = await turns.take({ address: 'x', peer: 'x', known: false });
    const crowd = Array.from({ length: 30 }, (_, i) => claim('class', `class ${i}`));
    const busy = async (address: string): Promise<void> => {
      while (order.filter((peer) => peer.startsWith('class')).length < 30) await claim(address, address);
    };
    const others = Array.from({ length: 16 }, (_, i) => busy(`address ${i}`));
    end!();
    await Promise.all([...crowd, ...others]);
    expect(order.length).toBeLessThan(30 * 2 * 17 + 17);
  });

  it('alternate between known claimants and strangers, so that neither displaces the other', async () => {
    const { turns, order, claim } = line();
    const end = await turns.take({ address: 'x', peer: 'x', known: false });
    const strangers = Array.from({ length: 100 }, (_, i) => claim(`s${i}`, `s${i}`));
    const known = ['k1', 'k2', 'k3'].map((peer) => claim('k', peer, true));
    end!();
    await Promise.all([...strangers, ...known]);
    expect(order.slice(0, 6)).toEqual(['k1', 's0', 'k2', 's1', 'k3', 's2']);
  });

  it('are one for each peer: a second claim takes over the place of the first', async () => {
    const { turns, order, claim } = line();
    const end = await turns.take({ address: 'x', peer: 'x', known: false });
    const claims = [claim('a', 'a1'), claim('b', 'b1'), claim('a', 'a1')];
    expect(turns.waiting).toBe(2);
    end!();
    await Promise.all(claims);
    expect(order).toEqual(['a1 superseded', 'a1', 'b1']);
  });

  it('are lost by a claim whose signal aborts, which leaves the line at once', async () => {
    const { turns, order, claim } = line();
    const end = await turns.take({ address: 'x', peer: 'x', known: false });
    const gone = new AbortController();
    const waiting = turns.take({ address: 'a', peer: 'a1', known: false }, gone.signal);
    const other = claim('b', 'b1');
    expect(turns.waiting).toBe(2);
    gone.abort();
    expect(await waiting).toBe(null);
    expect(turns.waiting).toBe(1);
    end!();
    await other;
    expect(order).toEqual(['b1']);
    expect(await turns.take({ address: 'a', peer: 'a1', known: false }, gone.signal)).toBe(null);
  });

  it('stop when their slice of time is over, until the event loop has run', async () => {
    const { clock, order, claim, loop } = line(10);
    await claim('a', 'a1');
    clock.advance(10);
    const claims = [claim('a', 'a2'), claim('b', 'b1')];
    await Promise.resolve();
    expect(order).toEqual(['a1']);
    loop();
    await Promise.all(claims);
    expect(order).toEqual(['a1', 'a2', 'b1']);
  });
});
