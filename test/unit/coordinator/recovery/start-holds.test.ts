import { expect, test } from 'vitest';
import {
  DiskGuard,
  PAUSE_BELOW_BYTES,
  RESUME_FROM_BYTES,
} from '../../../../coordinator/recovery/disk-guard.ts';
import { StopOrders } from '../../../../coordinator/recovery/stop-orders.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { training } from '../scripted-peer.ts';
import { COORDINATOR, World } from '../world.ts';

/** A coordinator that was killed in round 1, and holds its job after the restart. */
async function held({ nodes = 1 } = {}) {
  const world = new World({ rounds: { minPeers: 1 }, awaitsNodes: true });
  const { peers } = await training(world, nodes);
  expect(() => world.kill()).toThrow();
  await world.start();
  expect(world.run.driver.isHeld).toBe(true);
  return { world, peer: peers[0]!, peers };
}

test('a hold ends soon after enough members have connected', async () => {
  const { world, peer } = await held();
  await peer.join();
  expect(world.run.driver.isHeld).toBe(true);
  await world.pass(2_500);
  expect(world.run.driver.isHeld).toBe(false);
});

test('a hold waits for the other nodes of the round, but for 10 s at most', async () => {
  const { world, peers } = await held({ nodes: 2 });
  await peers[0]!.join();
  await world.pass(5_000);
  expect(world.run.driver.isHeld).toBe(true);
  await peers[1]!.join();
  await world.pass(2_500);
  expect(world.run.driver.isHeld).toBe(false);
  const alone = await held({ nodes: 2 });
  await alone.peers[0]!.join();
  await alone.world.pass(9_500);
  expect(alone.world.run.driver.isHeld).toBe(true);
  await alone.world.pass(1_000);
  expect(alone.world.run.driver.isHeld).toBe(false);
});

test('an order of the operator ends a hold, unless the order is refused', async () => {
  const { world } = await held();
  expect(() => world.run.rollBack(5)).toThrow();
  expect(world.run.driver.isHeld).toBe(true);
  world.run.operate({ type: 'pause', reason: 'lunch' });
  expect(world.run.driver.isHeld).toBe(false);
  expect(world.run.driver.state).toMatchObject({ phase: 'paused', reason: 'lunch' });
});

test.each([
  'no node connects',
  'a node connects that has no later head',
  'the operator orders the stop again',
])('a job that was behind and must stop signs heads of a higher term only, if %s', async (what) => {
  const { world, peer } = await held();
  const { job } = world.toy;
  const own = world.run.record.heads.newest.head;
  const later = signMessage('head', { ...own, sequence: own.sequence + 5 }, COORDINATOR);
  const answer = { head: later, checkpoints: [], receipts: [], settings: [] };
  const { message: head } = verifyMessage('head', later);
  new StopOrders(world.store).put({ job, peer: peer.id, head, answer }, 'a test');
  expect(() => world.kill()).toThrow();
  await world.start();
  expect([world.run.context.isBehind(), world.run.context.isStopping()]).toEqual([true, true]);
  expect(() => world.run.operate({ type: 'pause', reason: '' })).toThrow(withCode('JOB_BEHIND'));
  await world.pass(60_000);
  expect(world.run.driver.isHeld).toBe(true);
  const reason = what === 'the operator orders the stop again' ? 'another test' : 'a test';
  if (what === 'no node connects') await world.pass(60_000);
  else if (reason === 'a test') await peer.join();
  else world.run.operate({ type: 'stop', reason });
  await world.pass(20_000);
  expect(world.run.driver.state).toMatchObject({ phase: 'finished', reason });
  expect(world.store.jobs.stopOrders()).toEqual([]);
  const { term, sequence } = world.run.record.heads.newest.head;
  expect(term).toBe(own.term + 1);
  expect(sequence).toBeGreaterThan(head.sequence);
});

test('a ban removes a member at once, and does not end the hold', async () => {
  const { world, peer } = await held();
  const { sequence } = world.run.record.heads.newest.head;
  world.coordinator.ban(peer.id, { job: null, reason: 'a test', until: null });
  expect(world.run.members.list.has(peer.id)).toBe(false);
  expect(world.run.driver.isHeld).toBe(true);
  expect(world.run.record.heads.newest.head.sequence).toBe(sequence);
});

test('a job pauses because of a full disk only after its hold', async () => {
  const { world, peer } = await held();
  const jobs = () => world.coordinator.jobs();
  const disk = { free: PAUSE_BELOW_BYTES - 1 };
  const deps = { jobs, clock: world.clock, log: silentLogger, freeBytes: async () => disk.free };
  const guard = new DiskGuard({ home: await temporaryFolder() }, deps);
  await guard.look();
  expect(world.run.driver.state).toMatchObject({ phase: 'training', isHeld: true });
  await peer.join();
  await world.pass(2_500);
  await guard.look();
  expect(world.run.driver.state.pauseCause).toBe('disk-full');
  disk.free = RESUME_FROM_BYTES;
  // The coordinator starts again while the job is paused.
  expect(() => world.kill()).toThrow();
  await world.start();
  await guard.look();
  expect(world.run.driver.state).toMatchObject({ phase: 'paused', isHeld: true });
});
