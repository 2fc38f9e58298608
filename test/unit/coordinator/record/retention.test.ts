import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkpointsToEmpty, MILESTONES } from '../../../../coordinator/record/retention.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { verifyMessage } from '../../../../protocol/signing.ts';
import { ScriptedPeer } from '../scripted-peer.ts';
import { World, type WorldOptions } from '../world.ts';

describe('checkpointsToEmpty', () => {
  test('never chooses the newest or a milestone, and leaves few', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 300 }),
        (count, newest, commits) => {
          // Simulates one commit after another, as in a job.
          let held: { round: number; ordinal: number }[] = [];
          for (let ordinal = 0; ordinal < commits; ordinal++) {
            held.push({ round: 2 * ordinal, ordinal });
            const gone = checkpointsToEmpty(held, { newest, count, kept: [] });
            held = held.filter(({ round }) => !gone.includes(round));
          }
          const ordinals = held.map(({ ordinal }) => ordinal);
          const last = commits - 1;
          for (let i = Math.max(0, last - newest + 1); i <= last; i++) expect(ordinals).toContain(i);
          expect(ordinals).toContain(0);
          const stride = Math.max(1, Math.ceil(count / MILESTONES));
          expect(held.length).toBeLessThanOrEqual(newest + Math.ceil(commits / stride));
        },
      ),
    );
  });
});

test('the best checkpoint of a job keeps its weights', () => {
  const held = [1, 2, 3, 4].map((round) => ({ round, ordinal: round }));
  expect(checkpointsToEmpty(held, { newest: 1, count: 100, kept: [undefined, 2] })).toEqual([1, 3]);
});

const COUNT = 34;
const OPTIONS: WorldOptions = {
  rounds: { count: COUNT, minPeers: 1, localSteps: 1 },
  retention: { checkpoints: 2, rounds: 3 },
};

async function finish(world: World): Promise<void> {
  await world.start();
  const finished = (): boolean => world.alive && world.run?.driver.state.phase === 'finished';
  await new ScriptedPeer(1, world).work((round) => 0.0005 * round, finished);
  await world.until(finished, 'the end of the job');
  await world.pass(100);
}

/** Checkpoints that keep their weights: milestones, the newest ones, and the best, which is the newest here. */
const KEPT = Array.from({ length: COUNT + 1 }, (_, ordinal) => ordinal).filter(
  (ordinal) => ordinal % Math.ceil(COUNT / MILESTONES) === 0 || ordinal > COUNT - 2,
);

function expectRetained(world: World): void {
  const { store, disk, toy } = world;
  for (const digest of disk.files.keys()) expect(store.blobs.needs(digest), digest).toBe(true);
  const checkpoints = store.rounds.checkpoints(toy.job);
  expect(checkpoints).toHaveLength(COUNT + 1);
  const payloads = new Set<number>();
  for (const [ordinal, { round, digest, envelope, weights }] of checkpoints.entries()) {
    const { message } = verifyMessage('checkpoint', envelope);
    const kept = KEPT.includes(ordinal);
    expect(weights, `weights of checkpoint ${round}`).toBe(kept ? 'held' : 'gone');
    expect(disk.files.has(message.adapter.digest), `adapter of checkpoint ${round}`).toBe(kept);
    expect(disk.files.has(digest), `body of checkpoint ${round}`).toBe(true);
    for (const { update, round: made } of message.contributors)
      if (disk.files.has(update)) payloads.add(made);
  }
  expect([...payloads]).toEqual([COUNT - 2, COUNT - 1, COUNT]);
  const { delta } = verifyMessage('checkpoint', checkpoints.at(-1)!.envelope).message;
  expect(disk.files.has(delta!.digest)).toBe(true);
}

describe('a coordinator', () => {
  test('keeps newest payloads, the weights of newest, milestone and best checkpoints, and all signed messages', async () => {
    const world = new World(OPTIONS);
    const emptied: number[] = [];
    world.emptied = (round) => void emptied.push(round);
    await finish(world);
    expectRetained(world);
    expect(emptied).toEqual(
      Array.from({ length: COUNT + 1 }, (_, ordinal) => ordinal).filter((ordinal) => !KEPT.includes(ordinal)),
    );
  });

  test('deletes released weights after a restart, when it was killed before it could', async () => {
    const world = new World(OPTIONS);
    let kills = 0;
    world.emptied = () => {
      if (kills++ >= 3) return;
      world.clock.after(1_500, () => void world.start());
      world.kill();
    };
    await finish(world);
    expect(kills).toBeGreaterThan(3);
    expectRetained(world);
  });

  test('deletes the last released weights after a restart, although the job is over', async () => {
    const world = new World(OPTIONS);
    let last = false;
    world.emptied = (round) => {
      if (last || round !== COUNT - 2) return;
      last = true;
      world.clock.after(1_500, () => void world.start());
      world.kill();
    };
    await finish(world);
    expect(last).toBe(true);
    expectRetained(world);
  });

  test('keeps all weights if it is configured to', async () => {
    const world = new World({ ...OPTIONS, retention: { checkpoints: 0, rounds: 3 } });
    await finish(world);
    for (const { envelope, weights } of world.store.rounds.checkpoints(world.toy.job)) {
      expect(weights).toBe('held');
      expect(world.disk.files.has(verifyMessage('checkpoint', envelope).message.adapter.digest)).toBe(true);
    }
  });

  test('deletes the blobs of a job whose creation was killed', async () => {
    const world = new World(OPTIONS);
    const left = Uint8Array.of(1, 2, 3);
    world.store.blobs.markUnused(sha256(left));
    world.disk.files.set(sha256(left), left);
    await world.start();
    expect([...world.disk.files.keys()]).not.toContain(sha256(left));
  });

  test('deletes no blob that another job needs', async () => {
    const world = new World(OPTIONS);
    await world.start();
    // A second job with the same base, seed and shape has the same initial adapter, and therefore shares its blob.
    const { store, toy } = world;
    const shared = toy.manifest.adapter.initial.digest;
    store.blobs.release(toy.job, 'adapter', 0, 0);
    store.blobs.use(toy.job, 'step', 7, [shared]);
    await world.settle(world.coordinator.collector.sweep());
    expect(world.disk.files.has(shared)).toBe(true);
    store.blobs.release(toy.job, 'step', 7, 7);
    await world.settle(world.coordinator.collector.sweep());
    expect(world.disk.files.has(shared)).toBe(false);
  });
});
