import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { MachineUse } from '../../../../node/status/machine-use.ts';
import { NodeStore } from '../../../../node/store/node-store.ts';
import { folderBytes } from '../../../../storage/folder-size.ts';
import { eventually } from '../../../utils/eventually.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';

it('measures the trainer, the traffic and the disk, and keeps the traffic of a month over restarts', async () => {
  const home = await temporaryFolder();
  await writeFile(join(home, 'file'), new Uint8Array(1000));
  const store = NodeStore.open(':memory:');
  const clock = new VirtualClock(0);
  const traffic = { sent: 0, received: 0 };
  const trainer = { use: { cpuSeconds: 0, residentBytes: 4e9, at: 0 }, queue: 1 };
  const deps = { clock, log: silentLogger, totals: store.totals, trainer, traffic: () => ({ ...traffic }) };
  const use = new MachineUse({ home }, deps);
  use.start();
  traffic.sent = 5000;
  trainer.use = { ...trainer.use, cpuSeconds: 15, at: 5000 };
  await clock.run(() => false, 6000);
  const cost = use.cost();
  expect(cost.cpuThreads).toBeGreaterThanOrEqual(3);
  expect(cost.memoryBytes).toBeGreaterThan(4e9);
  expect(cost.bytesPerSecond).toEqual({ sent: 1000, received: 0 });
  expect(cost.month).toMatchObject({ sent: 5000, received: 0 });
  // The files of a job arrive within seconds of the start.
  await writeFile(join(home, 'base'), new Uint8Array(5000));
  await eventually(async () => {
    await clock.run(() => false, 6000);
    return use.cost().diskBytes === 6000;
  });
  use.stop();
  traffic.sent = 0;
  const next = new MachineUse({ home }, deps);
  traffic.sent = 70;
  expect(next.cost().month.sent).toBe(5070);
  expect(await folderBytes(home)).toBe(6000);
  expect(await folderBytes(join(home, 'missing'))).toBe(0);
});

it('counts the trainer between two short rounds, and no longer when it stays idle', async () => {
  const clock = new VirtualClock(0);
  const trainer = { use: { cpuSeconds: 0, residentBytes: 0, at: 0 }, queue: 0 };
  const { totals } = NodeStore.open(':memory:');
  const traffic = () => ({ sent: 0, received: 0 });
  const deps = { clock, log: silentLogger, totals, trainer, traffic };
  const use = new MachineUse({ home: await temporaryFolder() }, deps);
  use.start();
  trainer.use = { ...trainer.use, cpuSeconds: 50, at: 3000 };
  await clock.run(() => false, 5500);
  const { cpuThreads } = use.cost();
  expect(cpuThreads).toBeGreaterThanOrEqual(10);
  expect(cpuThreads).toBeLessThan(15);
  await clock.run(() => false, 5000);
  expect(use.cost().cpuThreads).toBeLessThan(5);
  use.stop();
});

it('averages the traffic over several pieces of a slow download', async () => {
  const clock = new VirtualClock(0);
  const received = () => 1_000_000 * (Math.floor(clock.monotonic() / 10_000) + 1);
  const { totals } = NodeStore.open(':memory:');
  const traffic = () => ({ sent: 0, received: received() });
  const deps = { clock, log: silentLogger, totals, trainer: { use: null, queue: 0 }, traffic };
  const use = new MachineUse({ home: await temporaryFolder() }, deps);
  use.start();
  await clock.run(() => false, 30_500);
  for (let seconds = 30; seconds < 80; seconds += 5) {
    expect(use.cost().bytesPerSecond.received).toBeCloseTo(100_000, -3);
    await clock.run(() => false, 5_000);
  }
  use.stop();
});
