import { expect, test } from 'vitest';
import type { PreparedJob } from '../../../../coordinator/record/new-job.ts';
import { World } from '../world.ts';

function other(world: World, content: string): PreparedJob {
  const prepared = world.prepared();
  const { manifest } = prepared;
  // Each comes with the time at which it was made, and so is another job.
  const createdAt = manifest.createdAt + content.length;
  return { ...prepared, content, manifest: { ...manifest, name: 'other', createdAt } };
}

test('of two jobs of one name that are made at once the second leaves the first alone', async () => {
  const world = await new World().start();
  const laidOut: string[] = [];
  world.laidOut = ({ checkpoint }) => void laidOut.push(checkpoint.job);
  const [first, second] = ['one', 'another'].map((content) =>
    world.coordinator.create(other(world, content)),
  );
  const refused = expect(second).rejects.toMatchObject({ code: 'JOB_EXISTS' });
  const run = await world.settle(first!);
  await refused;
  expect(laidOut).toEqual([run.context.job]);
});

test('the same job made twice at once is one job', async () => {
  const world = await new World().start();
  const laidOut: string[] = [];
  world.laidOut = ({ checkpoint }) => void laidOut.push(checkpoint.job);
  const runs = await world.settle(
    Promise.all([1, 2].map(() => world.coordinator.create(other(world, 'same')))),
  );
  expect(runs[0]).toBe(runs[1]);
  expect(laidOut).toEqual([runs[0]!.context.job]);
});
