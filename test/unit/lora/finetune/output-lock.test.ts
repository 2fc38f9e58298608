import { expect, it } from 'vitest';
import { lockOutput } from '../../../../lora/finetune/output-lock.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

it('only one run at a time can train into a folder', async () => {
  const cacheDir = await temporaryFolder();
  const release = lockOutput('/out', { cacheDir });
  expect(() => lockOutput('/out', { cacheDir })).toThrow(
    expect.objectContaining({
      code: 'OUTPUT_BUSY',
      values: { output: '/out', pid: process.pid },
    }),
  );
  lockOutput('/other', { cacheDir })();
  release();
  lockOutput('/out', { cacheDir })();
});
