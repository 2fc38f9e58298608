import { chmod, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { writeAll, writeOnce } from '../../../../../lora/models/weights/weight-cache.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';
import { mayOpenEverything } from '../../../../utils/unreadable.ts';

async function cache() {
  const path = join(await temporaryFolder(), 'cache', 'weights');
  let writes = 0;
  const write = (size: number): Promise<void> =>
    writeOnce(path, size, async (handle) => {
      writes++;
      await writeAll(handle, new Uint8Array(size).fill(writes), 0);
    });
  return { path, write, writes: () => writes };
}

it('writes a file once, and again if it has another size', async () => {
  const { path, write, writes } = await cache();
  await write(8);
  await write(8);
  expect(writes()).toBe(1);
  await write(9);
  expect(await readFile(path)).toEqual(Buffer.alloc(9, 2));
});

it('writes a file again that it may not read', async ({ skip }) => {
  skip(await mayOpenEverything(), 'this process may open every file');
  const { path, write } = await cache();
  await write(8);
  await chmod(path, 0);
  await write(8);
  expect(await readFile(path)).toEqual(Buffer.alloc(8, 2));
});
