import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { LimitsFile } from '../../../../node/limits/limits.ts';
import { type DrainedWork, NodeControl } from '../../../../node/limits/node-control.ts';
import { Pauses } from '../../../../node/limits/pauses.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { expectMode } from '../../../utils/source/platform.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';

const HOUR_MS = 3_600_000;

let home: string;
let clock: VirtualClock;
let work: DrainedWork[];
let stops: number;
let changed: object[];

beforeEach(async () => {
  home = await temporaryFolder();
  clock = new VirtualClock(1_800_000_000_000);
  work = [];
  stops = 0;
  changed = [];
});

async function start() {
  const pauses = new Pauses();
  const file = await LimitsFile.open(home);
  const control = new NodeControl({
    clock,
    log: silentLogger,
    file,
    pauses,
    work: () => work,
    onLimits: (changes) => changed.push(changes),
    stop: () => stops++,
  });
  control.start();
  return { control, pauses };
}

const pass = (ms: number) => clock.run(() => false, ms);

it('a pause ends after its time, also over a restart', async () => {
  const { control, pauses } = await start();
  await control.pause(2 * HOUR_MS);
  expect(pauses.current).toMatchObject({ reason: 'paused', until: clock.now() + 2 * HOUR_MS });
  control.stop();
  await pass(HOUR_MS);
  const again = await start();
  expect(again.pauses.current).not.toBeNull();
  await pass(HOUR_MS - 1);
  expect(again.pauses.current).not.toBeNull();
  await pass(1);
  expect(again.pauses.current).toBeNull();
  expect((await start()).pauses.current).toBeNull();
});

it('a pause without a time stays until the owner resumes', async () => {
  const { control, pauses } = await start();
  await control.pause(null);
  await pass(1000 * HOUR_MS);
  expect(pauses.current).toMatchObject({ until: null });
  expect((await start()).pauses.current).not.toBeNull();
  await control.resume();
  expect(pauses.current).toBeNull();
  expect((await start()).pauses.current).toBeNull();
});

it('work waits while the node is paused, and new work never starts while it drains', async () => {
  const { control, pauses } = await start();
  await control.pause(HOUR_MS);
  const abort = new AbortController();
  let begun = 0;
  const waiting = pauses.takesWork(abort.signal).then(() => begun++);
  await pass(HOUR_MS - 1);
  expect(begun).toBe(0);
  await pass(1);
  await waiting;
  control.drain();
  const late = pauses.takesWork(abort.signal);
  await pass(HOUR_MS);
  abort.abort();
  await expect(late).rejects.toBe(abort.signal.reason);
});

it('a drain waits for the round and for its receipt, then stops the node', async () => {
  const { control } = await start();
  work = [{ isTraining: true, awaitsReceipt: false }];
  control.drain();
  await pass(HOUR_MS);
  expect(stops).toBe(0);
  work = [{ isTraining: false, awaitsReceipt: true }];
  await pass(10_000);
  expect(stops).toBe(0);
  work = [{ isTraining: false, awaitsReceipt: false }];
  await pass(1_000);
  expect(stops).toBe(1);
});

it('a drain waits for a receipt only until its deadline, and not for a paused round', async () => {
  const first = await start();
  work = [{ isTraining: false, awaitsReceipt: true }];
  first.control.drain();
  await pass(29_000);
  expect(stops).toBe(0);
  await pass(2_000);
  expect(stops).toBe(1);
  const second = await start();
  work = [{ isTraining: true, awaitsReceipt: false }];
  await second.control.pause(null);
  second.control.drain();
  await pass(1_000);
  expect(stops).toBe(2);
});

it('limits are kept in the home, and null restores a default', async () => {
  const { control } = await start();
  await control.setLimits({ threads: 2, maxDiskBytes: 5e9 });
  await control.setLimits({ maxDiskBytes: null });
  expect(control.limits).toEqual({ threads: 2 });
  expect(changed).toEqual([{ threads: 2, maxDiskBytes: 5e9 }, { maxDiskBytes: null }]);
  expect((await start()).control.limits).toEqual({ threads: 2 });
  const path = join(home, 'limits.json');
  await expectMode(path, 0o600);
  await writeFile(path, (await readFile(path, 'utf8')).replace('"threads": 2', '"threads": -2'));
  await expect(LimitsFile.open(home)).rejects.toMatchObject({ code: 'LIMITS_DAMAGED', values: { path } });
});

it('sets no timer after the stop', async () => {
  const { control, pauses } = await start();
  const paused = control.pause(HOUR_MS);
  control.stop();
  await paused;
  control.drain();
  await pass(2 * HOUR_MS);
  expect(pauses.current).toBeNull();
  expect(stops).toBe(0);
  // The order is kept for the next start.
  expect((await LimitsFile.open(home)).pausedUntil).not.toBeNull();
});
