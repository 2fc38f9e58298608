import { describe, expect, it } from 'vitest';
import { FairQuota } from '../../../../common/limits/fair-quota.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

const { signal } = new AbortController();

/** A quota of 10 calls per second, whose granted calls the test counts by address. */
function quotaOf(patienceMs = 60_000) {
  const clock = new ManualClock();
  const quota = new FairQuota({ calls: 10, perMs: 1000, patienceMs, sliceMs: Infinity }, { clock });
  const granted = new Map<string, number>();
  const call = async (address: string, peer: string, life = signal): Promise<boolean> => {
    const isGranted = await quota.take({ address, peer, known: false }, { signal: life });
    if (isGranted) granted.set(address, (granted.get(address) ?? 0) + 1);
    return isGranted;
  };
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 50) {
      clock.advance(50);
      // The promises of granted calls settle, and their callers call again.
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return { clock, quota, granted, call, pass };
}

describe('a fair quota', () => {
  it('grants calls at once while it lasts, and then at its rate', async () => {
    const { clock, granted, call, pass } = quotaOf();
    for (let i = 0; i < 10; i++) expect(await call('a', 'a1')).toBe(true);
    expect(clock.due()).toEqual([]);
    for (let i = 0; i < 30; i++) void call('a', `a${i}`);
    await pass(1000);
    expect(granted.get('a')).toBeGreaterThanOrEqual(19);
    expect(granted.get('a')).toBeLessThanOrEqual(20);
  });

  it.each([1, 4])('serves an address that asks little while %d others ask without end', async (addresses) => {
    const { granted, call, pass } = quotaOf();
    const flood = async (i: number): Promise<void> => {
      while (await call(`attacker ${i % addresses}`, `peer ${i}`));
    };
    for (let i = 0; i < 40; i++) void flood(i);
    await pass(1000);
    const honest = (async () => {
      for (let i = 0; i < 5; i++) await call('honest', 'honest');
    })();
    // The quota allows a call in 100 ms. Each honest call waits for at most one call of each other address, and for the
    // call that is running.
    await pass(5 * (addresses + 2) * 100);
    expect(granted.get('honest')).toBe(5);
    const all = [...granted.values()].reduce((sum, calls) => sum + calls, 0);
    expect(all).toBeLessThanOrEqual(10 + 10 + 5 * (addresses + 2) + 1);
    void honest;
  });

  it('refuses a call that has waited for too long', async () => {
    const { call, pass } = quotaOf(300);
    for (let i = 0; i < 10; i++) await call('a', 'a1');
    const answers: boolean[] = [];
    for (let i = 0; i < 20; i++) void call('a', `a${i}`).then((answer) => answers.push(answer));
    await pass(1000);
    expect(answers.filter(Boolean).length).toBeLessThanOrEqual(4);
    expect(answers).toHaveLength(20);
  });

  it('takes nothing for a call that is no longer needed when its turn comes', async () => {
    const { quota, call, pass } = quotaOf();
    for (let i = 0; i < 10; i++) await call('a', 'a1');
    const answers = Array.from({ length: 100 }, (_, i) =>
      quota.take({ address: 'a', peer: `a${i}`, known: false }, { signal, isNeeded: () => false }),
    );
    expect(new Set(await Promise.all(answers))).toEqual(new Set([true]));
    const next = call('b', 'b1');
    await pass(200);
    expect(await next).toBe(true);
  });

  it('remembers no caller that has left, however many identities and addresses call', async () => {
    const { clock, quota, call } = quotaOf();
    for (let i = 0; i < 10; i++) await call('a', 'a1');
    const life = new AbortController();
    const calls = Array.from({ length: 2_000 }, (_, i) => call(`address ${i}`, `peer ${i}`, life.signal));
    expect(quota.waiting).toBe(1_999);
    life.abort(new Error('gone'));
    for (const result of await Promise.allSettled(calls))
      expect(result).toMatchObject({ reason: { message: 'gone' } });
    expect(quota.waiting).toBe(0);
    expect(clock.due()).toEqual([]);
  });
});
