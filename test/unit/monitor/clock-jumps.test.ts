import { expect, test } from 'vitest';
import { ClockJumps } from '../../../monitor/clock-jumps.ts';
import { VirtualClock } from '../../utils/virtual/virtual-clock.ts';

const MINUTE = 60_000;

/** Returns the jumps of a machine, and a function that sets the error of its clock and lets time pass. */
function machine() {
  const virtual = new VirtualClock(1_700_000_000_000);
  let wrongMs = 0;
  const clock = virtual.process(
    () => true,
    () => wrongMs,
  );
  const jumps = new ClockJumps({ clock });
  const heard: number[] = [];
  jumps.watch((byMs) => heard.push(byMs));
  const pass = async (ms: number, error = wrongMs): Promise<void> => {
    wrongMs = error;
    await virtual.run(() => false, ms);
  };
  return { jumps, heard, pass };
}

test('a forward jump is shown for ten minutes, and health names it', async () => {
  const { jumps, heard, pass } = machine();
  await pass(MINUTE);
  expect(jumps.recent).toBeNull();
  expect(jumps.problem()).toBeNull();
  await pass(2 * MINUTE, 10 * MINUTE);
  expect(heard).toEqual([600_000]);
  expect(jumps.recent).toEqual({ byMs: 600_000, secondsAgo: expect.closeTo(115, -1) });
  expect(jumps.problem()).toMatch(/\bforward\b.*\b10 min\b.*\b60 s\b/);
  await pass(9 * MINUTE);
  expect(jumps.recent).toBeNull();
  expect(jumps.problem()).toBeNull();
});

test('a clock that is set back to the right time is healthy again', async () => {
  const { jumps, pass } = machine();
  await pass(MINUTE, 10 * MINUTE);
  await pass(MINUTE, 0);
  expect(jumps.recent).toBeNull();
  expect(jumps.problem()).toBeNull();
});

test('a small jump is shown, but the daemon stays healthy, because coordinators accept its clock', async () => {
  const { jumps, pass } = machine();
  await pass(MINUTE, -30_000);
  expect(jumps.recent?.byMs).toBe(-30_000);
  expect(jumps.problem()).toBeNull();
});
