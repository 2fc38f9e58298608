import { join } from 'node:path';
import { expect, it } from 'vitest';
import { CHECKPOINTS_PER_ANSWER } from '../../../../coordinator/api/checkpoint-views.ts';
import type { ApiConnection } from '../../../../coordinator/client/api-connection.ts';
import { listCheckpoints } from '../../../../coordinator/client/list-checkpoints.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { viewsOfCheckpoints } from '../../../utils/swarm/many-checkpoints.ts';

const ROUNDS = 2 * CHECKPOINTS_PER_ANSWER;

it('answers with a page of the checkpoints, which a client puts together again', async () => {
  const { views, run, store } = viewsOfCheckpoints(join(await temporaryFolder(), 'c.sqlite'), ROUNDS, 1);
  expect(views.page(run, { before: 7, limit: 2 }).map(({ round, isBest }) => [round, isBest])).toEqual([
    [6, false],
    [5, false],
  ]);
  expect(views.page(run, { before: 0, limit: 2 })).toEqual([]);
  const asked: string[] = [];
  const get = async (path: string) => {
    asked.push(path);
    const before = Number(new URL(path, 'http://a').searchParams.get('before'));
    return { checkpoints: views.page(run, { before, limit: CHECKPOINTS_PER_ANSWER }) };
  };
  const all = await listCheckpoints({ get } as unknown as ApiConnection, 'large');
  expect(all.map(({ round }) => round)).toEqual(Array.from({ length: ROUNDS + 1 }, (_, i) => ROUNDS - i));
  expect(all.filter(({ isBest }) => isBest)).toEqual([all[0]]);
  expect(asked).toHaveLength(3);
  store.close();
});

it('verifies a checkpoint once', async () => {
  const { views, run, store } = viewsOfCheckpoints(join(await temporaryFolder(), 'c.sqlite'), 2, 1);
  const [newest] = views.page(run, { before: 9, limit: 1 });
  const stored = store.rounds.checkpoint(run.context.job, 2)!;
  const damaged = { ...stored, envelope: Uint8Array.of(1) };
  expect(views.one(run, damaged)).toEqual(newest);
  expect(() => views.one(run, { ...damaged, digest: 'another' })).toThrow();
  store.close();
});
