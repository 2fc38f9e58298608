import { beforeEach, expect, it, onTestFinished, vi } from 'vitest';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import type { Rates } from '../../../../net/bandwidth.ts';
import { LimitsFile } from '../../../../node/limits/limits.ts';
import { OwnerLimits, type OwnerLimitsOptions } from '../../../../node/limits/owner-limits.ts';
import { defaultPolicy } from '../../../../node/limits/policy.ts';
import { eventually } from '../../../utils/eventually.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

let home: string;
let rates: Rates | null;
let checks: number;

beforeEach(async () => {
  home = await temporaryFolder();
  rates = null;
  checks = 0;
  const file = await LimitsFile.open(home);
  await file.change({ maxDiskBytes: 9, maxBaseBytes: 8, maxUpload: 200_000, hours: '00:00-00:00' });
});

async function start(options: Partial<OwnerLimitsOptions>) {
  const all = { home, defaults: defaultPolicy, policy: {}, limits: {}, polite: undefined, ...options };
  const owner = await OwnerLimits.open(all, { clock: new ManualClock(), log: silentLogger });
  const node = {
    network: {
      limitBandwidth: (now: Rates) => {
        rates = now;
      },
    },
    work: () => [],
    stop: () => {},
    checkLimits: () => {
      checks++;
    },
    traffic: () => ({ bytes: 0, month: '2026-11' }),
  };
  await owner.start(node);
  return { owner, control: owner.control(node) };
}

it('limits of the start come before those of the home, until the owner changes them', async () => {
  const { owner, control } = await start({
    policy: { maxDiskBytes: 5 },
    limits: { maxDownload: 300_000 },
  });
  const { maxMemoryBytes } = defaultPolicy;
  expect(owner.policy).toMatchObject({ maxBaseBytes: 8, maxDiskBytes: 5, maxMemoryBytes });
  expect(rates).toEqual({ upload: 200_000, download: 300_000 });
  await control.setLimits({ maxBaseBytes: null, maxDownload: 400_000 });
  expect(owner.policy).toMatchObject({ ...defaultPolicy, maxDiskBytes: 5 });
  await eventually(() => rates?.download === 400_000);
  await control.setLimits({ maxDiskBytes: 7, maxUpload: null });
  expect(owner.policy.maxDiskBytes).toBe(7);
  await eventually(() => rates?.upload === null);
  expect(owner.kept).toEqual({ maxDiskBytes: 7, maxDownload: 400_000, hours: '00:00-00:00' });
  owner.stop();
});

it('compares the jobs with changed limits on what a job may need, after the change', async () => {
  const { owner, control } = await start({});
  await control.setLimits({ maxUpload: 300_000, polite: false });
  expect(checks).toBe(0);
  await control.setLimits({ maxDiskBytes: 7 });
  expect(checks).toBe(1);
  await control.setLimits({ maxMemoryBytes: null, maxBaseBytes: null });
  expect(checks).toBe(2);
  owner.stop();
});

it('counts its own process in a memory limit that the owner has set, and not in the default', async () => {
  const GIB = 2 ** 30;
  const machine = { defaults: { ...defaultPolicy, maxMemoryBytes: 64 * GIB } };
  const { owner, control } = await start(machine);
  const own = () => owner.policy.processBytes!();
  expect([own(), owner.trainerBytes]).toEqual([null, 64 * GIB]);
  await control.setLimits({ maxMemoryBytes: 8 * GIB });
  const measured = own()!;
  expect(measured).toBeGreaterThan(20e6);
  expect(owner.trainerBytes).toBe(8 * GIB - measured);
  await control.setLimits({ maxMemoryBytes: 1 });
  expect([own(), owner.trainerBytes]).toEqual([measured, 0]);
  owner.stop();
  const again = await start(machine);
  expect(again.owner.policy.processBytes!(), 'the home keeps the limit').not.toBeNull();
  await again.control.setLimits({ maxMemoryBytes: null });
  expect(again.owner.policy.processBytes!()).toBeNull();
  again.owner.stop();
  const given = await start({ ...machine, policy: { maxMemoryBytes: GIB } });
  expect(given.owner.policy.processBytes!()).not.toBeNull();
  given.owner.stop();
});

it('measures its own process at the start, also if the owner sets a memory limit later', async () => {
  const rss = vi.spyOn(process.memoryUsage, 'rss').mockReturnValue(90e6);
  onTestFinished(() => rss.mockRestore());
  const { owner, control } = await start({});
  rss.mockReturnValue(900e6);
  await control.setLimits({ maxMemoryBytes: 2 ** 30 });
  expect(owner.policy.processBytes!()).toBe(90e6);
  owner.stop();
});

it('a polite node has limits of the bandwidth by default', async ({ skip }) => {
  if (process.platform !== 'linux') return skip('reading the machine is slow, or there is no probe');
  const { owner } = await start({ polite: true });
  expect(owner.isPolite).toBe(true);
  expect(rates).toEqual({ upload: 200_000, download: 5_000_000 });
  owner.stop();
  const impolite = await start({ polite: undefined });
  expect(impolite.owner.isPolite).toBe(false);
  expect(rates).toEqual({ upload: 200_000, download: null });
  impolite.owner.stop();
});
