import { expect, it } from 'vitest';
import { watchClock } from '../../../../common/time/clock-watch.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';
import { training } from '../../coordinator/scripted-peer.ts';
import { World } from '../../coordinator/world.ts';

it('reports a clock that was set forward or back, and no small correction', async () => {
  const machine = new VirtualClock(1_700_000_000_000);
  let wrongMs = 0;
  const jumps: number[] = [];
  const stop = watchClock(
    machine.process(
      () => true,
      () => wrongMs,
    ),
    (byMs) => jumps.push(byMs),
  );
  for (const error of [0, 3_600_000, 3_600_000, 3_601_000, -60_000]) {
    wrongMs = error;
    await machine.run(() => false, 6_000);
  }
  expect(jumps).toEqual([3_600_000, -3_661_000]);
  stop();
  wrongMs = 0;
  await machine.run(() => false, 20_000);
  expect(jumps).toHaveLength(2);
});

it('a coordinator records that its clock was set, and its round keeps its deadline', async () => {
  const world = new World({ rounds: { minPeers: 1, count: 2 } });
  await training(world, 1);
  const { current } = world.run.driver.state;
  world.wrongMs = 2 * 3_600_000;
  await world.pass(6_000);
  const events = world.store.events.after(world.toy.job, 0, 100);
  expect(events).toContainEqual(expect.objectContaining({ type: 'clock-set', byMs: 7_200_000 }));
  expect(world.run.driver.state.current?.number).toBe(current!.number);
});
