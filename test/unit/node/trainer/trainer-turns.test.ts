import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sleep } from '../../../../common/time/deadline.ts';
import {
  IDLE_SHARE,
  MIN_TURN_MS,
  TrainerTurns,
  type TurnUser,
  UNDATED_WAIT_MS,
} from '../../../../node/trainer/trainer-turns.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';

/** A job whose rounds last `roundMs`. A round begins `pauseMs` after the end of the last one. */
interface Job {
  weight: number;
  roundMs: number;
  pauseMs: number;
}

/** Lets jobs share a trainer for a virtual time. */
async function share(jobs: readonly Job[], ms: number) {
  const clock = new VirtualClock(0);
  const turns = new TrainerTurns({ clock });
  const stop = new AbortController();
  const { signal } = stop;
  const waits: number[] = [];
  const order: number[] = [];
  let busy = 0;
  const users: TurnUser[] = jobs.map(({ weight, roundMs, pauseMs }, i) => {
    const user = turns.join(weight);
    const run = async (): Promise<void> => {
      for (;;) {
        const asked = clock.now();
        const { end } = await turns.claim(user, signal);
        waits.push(clock.now() - asked);
        order.push(i);
        await sleep(clock, roundMs, signal);
        busy += roundMs;
        end();
        await sleep(clock, pauseMs, signal);
      }
    };
    run().catch(() => {});
    return user;
  });
  await clock.run(() => false, ms);
  stop.abort(new Error('the test is over'));
  return { users, longestWait: Math.max(...waits), order, idle: 1 - busy / ms };
}

const jobs = (pause: fc.Arbitrary<number>) =>
  fc.array(
    fc.record({
      weight: fc.integer({ min: 1, max: 8 }),
      roundMs: fc.integer({ min: 500, max: 5_000 }),
      pauseMs: pause,
    }),
    { minLength: 2, maxLength: 4 },
  );

describe('the turns of the trainer', () => {
  test('divide the time in proportion to the weights while all jobs wait', async () => {
    await fc.assert(
      fc.asyncProperty(jobs(fc.constant(0)), async (some) => {
        const { users, longestWait } = await share(some, 2_000_000);
        const total = users.reduce((sum, { usedMs }) => sum + usedMs, 0);
        const weights = users.reduce((sum, { weight }) => sum + weight, 0);
        for (const { usedMs, weight } of users) expect(usedMs / total).toBeCloseTo(weight / weights, 1);
        // A job waits until each other job has caught up with it, and for one more round of each.
        const most = Math.max(...some.map(({ roundMs }) => roundMs));
        const longest = some.reduce((sum, { weight }) => sum + (weight + 1) * most, 0);
        expect(longestWait).toBeLessThanOrEqual(longest);
      }),
      { numRuns: 20 },
    );
  });

  test('never leave the trainer idle for more than a small share of the time, and starve no job', async () => {
    await fc.assert(
      fc.asyncProperty(jobs(fc.integer({ min: 0, max: 2_000 })), async (some) => {
        const { users, order, idle } = await share(some, 400_000);
        // If one of the jobs has no pause, a job always waits, and the trainer should hardly be idle. Otherwise, the trainer
        // may be idle because no job waits.
        if (some.some(({ pauseMs }) => pauseMs === 0)) expect(idle).toBeLessThan(1.2 * IDLE_SHARE);
        for (const [i] of users.entries()) expect(order.slice(-200)).toContain(i);
      }),
      { numRuns: 20 },
    );
  });

  test('follow the weights although a job waits only after a pause', async () => {
    const job = { roundMs: 10_000, pauseMs: 400 };
    const { users, order } = await share(
      [
        { weight: 2, ...job },
        { weight: 1, ...job },
      ],
      600_000,
    );
    expect(users[0]!.usedMs / users[1]!.usedMs).toBeCloseTo(2, 0);
    expect(order.slice(-6).join('')).toMatch(/001001|010010|100100/);
  });

  test('do not wait for a job that returns too late, or never', async () => {
    const { idle } = await share(
      [
        { weight: 8, roundMs: 1_000, pauseMs: 500_000 },
        { weight: 1, roundMs: 1_000, pauseMs: 0 },
      ],
      100_000,
    );
    expect(idle).toBeLessThan(IDLE_SHARE);
  });

  test('a job that withdraws its claim keeps its place', async () => {
    const clock = new VirtualClock(0);
    const turns = new TrainerTurns({ clock });
    const [a, b] = [turns.join(1), turns.join(1)];
    const { end } = await turns.claim(a, new AbortController().signal);
    const stop = new AbortController();
    const withdrawn = turns.claim(b, stop.signal);
    const again = turns.claim(a, new AbortController().signal);
    stop.abort(new Error('stale'));
    await expect(withdrawn).rejects.toBe(stop.signal.reason);
    const claimed = turns.claim(b, new AbortController().signal);
    await clock.run(() => false, 1_000);
    end();
    (await claimed).end();
    (await again).end();
    expect(turns.holder).toBeNull();
  });
});

describe('a turn is up for another job', () => {
  const HOUR_MS = 3_600_000;
  const { signal } = new AbortController();

  /** Gives the first job a turn, lets the second one wait, and returns a function that says when the turn is up. */
  async function waiting(
    holder: { dueAt: number | null; workMs: number | null },
    work: { dueAt: number | null; workMs: number | null },
    { usedMs = 0, weight = 1 } = {},
  ) {
    const clock = new VirtualClock(0);
    const turns = new TrainerTurns({ clock });
    const [a, b] = [turns.join(1), turns.join(weight)];
    if (usedMs > 0) {
      const { end } = await turns.claim(b, signal);
      await clock.run(() => false, usedMs);
      end();
    }
    const start = clock.monotonic();
    const shifted = ({ dueAt, workMs }: typeof work) => ({ dueAt: dueAt && start + dueAt, workMs });
    const turn = await turns.claim(a, signal, shifted(holder));
    turns.claim(b, signal, shifted(work)).catch(() => {});
    return async (mostMs: number): Promise<number | null> => {
      for (let ms = 0; ms <= mostMs; ms += 1_000) {
        if (turn.isUp()) return ms;
        await clock.run(() => false, 1_000);
      }
      return null;
    };
  }

  test('when that job must begin to meet its deadline', async () => {
    const day = { dueAt: 24 * HOUR_MS, workMs: 20 * HOUR_MS };
    const upAfter = await waiting(day, { dueAt: 600_000, workMs: 80_000 });
    expect(await upAfter(HOUR_MS)).toBe(500_000);
    // The work of the waiting job takes an unknown time, so half of the time until its deadline is reserved for it.
    const unknown = await waiting(day, { dueAt: 600_000, workMs: null });
    expect(await unknown(HOUR_MS)).toBe(300_000);
    const undated = await waiting(day, { dueAt: null, workMs: null });
    expect(await undated(HOUR_MS)).toBe(UNDATED_WAIT_MS);
  });

  test('but not before the turn has lasted for a minute', async () => {
    const upAfter = await waiting({ dueAt: HOUR_MS, workMs: null }, { dueAt: 1_000, workMs: 1_000 });
    expect(await upAfter(HOUR_MS)).toBe(MIN_TURN_MS);
  });

  test('but only if that job has used less than its share', async () => {
    const work = { dueAt: 1_000, workMs: 1_000 };
    const upAfter = await waiting({ dueAt: HOUR_MS, workMs: null }, work, { usedMs: 300_000 });
    expect(await upAfter(HOUR_MS)).toBe(301_000);
    const heavy = await waiting({ dueAt: HOUR_MS, workMs: null }, work, { usedMs: 300_000, weight: 3 });
    expect(await heavy(HOUR_MS)).toBe(101_000);
  });

  test('but not if the job that has the turn must be done earlier, unless it is late', async () => {
    const work = { dueAt: 300_000, workMs: 299_000 };
    const upAfter = await waiting({ dueAt: 200_000, workMs: 200_000 }, work);
    expect(await upAfter(HOUR_MS)).toBe(200_000);
  });
});
