import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { copyCheckpoint } from '../../../../coordinator/client/copy-checkpoint.ts';
import type { CheckpointView } from '../../../../protocol/api/coordinator.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

it('a checkpoint whose weights have been deleted is not copied', async () => {
  const folder = await temporaryFolder();
  const view = { round: 3, path: join(folder, '0003'), kept: false } as CheckpointView;
  await expect(copyCheckpoint(view, join(folder, 'out'))).rejects.toMatchObject({
    code: 'CHECKPOINT_PRUNED',
    values: { round: 3 },
    kind: 'notFound',
  });
  expect(await readdir(folder)).toEqual([]);
});
