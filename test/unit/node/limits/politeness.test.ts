import { expect, it } from 'vitest';
import { areHours, untilHours } from '../../../../node/limits/hours.ts';
import { BUSY_MS, BUSY_SHARE, CALM_MS, Politeness } from '../../../../node/limits/politeness.ts';

const calm = { othersShare: 0.05, onBattery: false };
const busy = { othersShare: BUSY_SHARE, onBattery: false };

/**
 * Returns the reason for a pause, or null, after each of some facts. Each fact lasts for some seconds, in which the
 * machine is looked at every 5 s.
 */
function reasons(...facts: [typeof calm, number][]): (string | null)[] {
  const politeness = new Politeness();
  let now = 1_000;
  return facts.map(([one, seconds]) => {
    let reason: string | null = null;
    for (let passed = 0; passed < seconds; passed += 5) {
      reason = politeness.next(one, now);
      now += 5_000;
    }
    return reason;
  });
}

it('pauses when others are busy for a while, and goes on only after a minute of calm', () => {
  expect([BUSY_MS, CALM_MS]).toEqual([10_000, 60_000]);
  expect(reasons([busy, 10])).toEqual([null]);
  expect(reasons([busy, 15])).toEqual(['machine-busy']);
  expect(reasons([busy, 15], [calm, 55], [calm, 5])).toEqual(['machine-busy', 'machine-busy', null]);
});

it('does not change back and forth while the load does', () => {
  const load = Array.from({ length: 40 }, (_, i): [typeof calm, number] => [i % 2 ? calm : busy, 5]);
  // A burst of 5 s is too short to begin a pause. But during a pause, each burst prolongs the pause.
  expect(new Set(reasons(...load))).toEqual(new Set([null]));
  expect(new Set(reasons([busy, 20], ...load))).toEqual(new Set(['machine-busy']));
});

it('pauses on battery at once, and not when the load of others is unknown', () => {
  const battery = { ...calm, onBattery: true };
  expect(reasons([battery, 5], [calm, 55], [calm, 5])).toEqual(['battery', 'battery', null]);
  const unknown = new Politeness();
  expect(unknown.next({ othersShare: null, onBattery: false }, 0)).toBeNull();
});

it.each([
  ['22:00-07:00', true],
  ['12:00-13:00,20:00-23:59', true],
  ['00:00-24:00', true],
  ['all', true],
  ['all,22:00-07:00', false],
  ['7:00-8:00', false],
  ['24:00-07:00', false],
  ['', false],
])('hours %j: %s', (text, valid) => {
  expect(areHours(text)).toBe(valid);
});

it.each([
  ['22:00-07:00', '21:59:30', 0.5],
  ['22:00-07:00', '22:00:00', 0],
  ['22:00-07:00', '06:59:59', 0],
  ['22:00-07:00', '07:00:00', 15 * 60],
  ['12:00-13:00,20:00-21:00', '14:00:00', 6 * 60],
  ['12:00-13:00,20:00-21:00', '23:00:00', 13 * 60],
  ['00:00-00:00', '15:00:00', 0],
  ['00:00-24:00', '15:00:00', 0],
  ['22:00-24:00', '21:00:00', 60],
  ['22:00-24:00', '23:59:59', 0],
  ['all', '15:00:00', 0],
])('at the hours %s, at %s, the next hours begin in %d minutes', (hours, time, minutes) => {
  expect(untilHours(hours, new Date(`2026-11-28T${time}`))).toBe(minutes * 60_000);
});
