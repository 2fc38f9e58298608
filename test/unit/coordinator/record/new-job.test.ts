import { expect, test } from 'vitest';
import type { PreparedJob } from '../../../../coordinator/record/new-job.ts';
import { World } from '../world.ts';

function other(world: World, content: string): PreparedJob {
  const prepared = world.prepared();
  const { manifest } = prepared;
  // Each content gives another creation time, so that the manifests are different jobs.
  const createdAt = manifest.createdAt + content.length;
  return { ...prepared, content, manifest: { ...manifest, name: 'other', createdAt } };
}

test('the second of two jobs of one name, created at the same time, does not touch the first', async () => {
  const world = await new World().start();
  const laidOut: string[] = [];
  world.laidOut = ({ checkpoint }) => void laidOut.push(checkpoint.job);
  const [first, second] = ['one', 'another'].map((content) =>
    world.coordinator.create(other(world, content)),
  );
  const refused = expect(second).rejects.toMatchObject({ code: 'JOB_EXISTS' });
  const { run } = await world.settle(first!);
  await refused;
  expect(laidOut).toEqual([run.context.job]);
});

test('the same job created twice at the same time is one job', async () => {
  const world = await new World().start();
  const laidOut: string[] = [];
  world.laidOut = ({ checkpoint }) => void laidOut.push(checkpoint.job);
  const created = await world.settle(
    Promise.all([1, 2].map(() => world.coordinator.create(other(world, 'same')))),
  );
  expect(created[0]!.run).toBe(created[1]!.run);
  expect(created.map(({ isNew }) => isNew)).toEqual([true, false]);
  expect(laidOut).toEqual([created[0]!.run.context.job]);
});
