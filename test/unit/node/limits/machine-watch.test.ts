import { beforeEach, expect, it } from 'vitest';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import type { MachineReading } from '../../../../node/limits/machine/probe.ts';
import { MachineWatch, type MachineWatchDeps } from '../../../../node/limits/machine-watch.ts';
import type { KeptLimits, Pause } from '../../../../protocol/api/node.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';

const THREADS = 4;

let clock: VirtualClock;
let limits: KeptLimits;
let machine: Pick<MachineReading, 'onBattery' | 'hasUser'>;
/** Threads that other programs and the node keep busy. */
let threads: { others: number; own: number };
let readings: number;
let monthBytes: number;
let pause: Pause | null;

beforeEach(() => {
  clock = new VirtualClock(new Date('2026-11-28T12:00:00').getTime());
  limits = {};
  machine = { onBattery: false, hasUser: true };
  threads = { others: 0, own: 3 };
  readings = 0;
  monthBytes = 0;
  pause = null;
});

function watch(changes: Partial<MachineWatchDeps> = {}): MachineWatch {
  let [busySeconds, ownSeconds] = [1000, 100];
  return new MachineWatch({
    clock,
    log: silentLogger,
    probe: {
      everyMs: 5_000,
      read: async () => {
        readings++;
        busySeconds += 5 * (threads.others + threads.own);
        ownSeconds += 5 * threads.own;
        return { busySeconds, ownSeconds, ...machine };
      },
    },
    pid: 1,
    threads: THREADS,
    limits: () => limits,
    polite: 'auto',
    traffic: () => ({ bytes: monthBytes, month: '2026-11' }),
    onPause: (now) => {
      pause = now;
    },
    ...changes,
  });
}

const pass = (ms: number) => clock.run(() => false, ms);

it('pauses for the programs of others, and not for the work of the node', async () => {
  await watch().start();
  await pass(60_000);
  expect(pause).toBeNull();
  threads.others = 2;
  await pass(20_000);
  expect(pause).toMatchObject({ reason: 'machine-busy' });
  Object.assign(threads, { others: 0, own: 0 });
  await pass(55_000);
  expect(pause).toMatchObject({ reason: 'machine-busy' });
  await pass(15_000);
  expect(pause).toBeNull();
});

it('is polite by default on a machine with a user only, and as the owner says elsewhere', async () => {
  const impolite = watch();
  machine = { onBattery: true, hasUser: false };
  await impolite.look();
  expect([impolite.isPolite, pause]).toEqual([false, null]);
  limits = { polite: true };
  await impolite.look();
  expect([impolite.isPolite, pause?.reason]).toEqual([true, 'battery']);
  limits = { polite: false };
  machine = { onBattery: true, hasUser: true };
  readings = 0;
  await impolite.look();
  expect([impolite.isPolite, pause, readings]).toEqual([false, null, 0]);
});

it('works at the hours of the owner only, also without a probe', async () => {
  limits = { hours: '13:00-14:00' };
  await watch({ probe: null }).start();
  expect(pause).toMatchObject({ reason: 'hours', until: clock.now() + 3_600_000 });
  await pass(3_600_000);
  expect(pause).toBeNull();
  await pass(3_610_000);
  expect(pause).toMatchObject({ reason: 'hours', until: new Date('2026-11-29T13:00:00').getTime() });
});

it('a probe that fails stops nothing', async () => {
  let calls = 0;
  const failing = watch({
    probe: { everyMs: 5_000, read: () => Promise.reject(new Error(`no ${++calls}`)) },
  });
  await failing.start();
  await pass(20_000);
  expect(calls).toBe(5);
  failing.stop();
  await pass(20_000);
  expect(calls).toBe(5);
});

it('pauses until the next month when the traffic of this month is used up', async () => {
  limits = { maxTraffic: 5e9 };
  await watch().start();
  monthBytes = 4.9e9;
  await pass(5_000);
  expect(pause).toBeNull();
  monthBytes = 5e9;
  await pass(5_000);
  expect(pause).toMatchObject({ reason: 'traffic', until: Date.UTC(2026, 11, 1) });
  limits = { maxTraffic: 6e9 };
  await pass(5_000);
  expect(pause).toBeNull();
});

it('a reading that ends after the stop pauses nothing', async () => {
  limits = { hours: '01:00-02:00' };
  const reading = Promise.withResolvers<MachineReading>();
  const probe = { everyMs: 5_000, read: () => reading.promise };
  const watched = watch({ probe });
  const started = watched.start();
  watched.stop();
  reading.resolve({ busySeconds: 1, ownSeconds: 1, ...machine });
  await started;
  expect(pause).toBeNull();
});
