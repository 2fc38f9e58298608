import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { writeAll, writeChecked, writeOnce } from '../../../../../lora/models/weights/weight-cache.ts';
import { sha256 } from '../../../../../protocol/cbor.ts';
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

it('writes a checked file again if one bit of it is damaged, and says so', async () => {
  const path = join(await temporaryFolder(), 'cache', 'weights');
  const damaged: string[] = [];
  const size = 3 * 2 ** 20 + 5;
  const content = new Uint8Array(size).map((_, i) => i % 251);
  let writes = 0;
  const write = async (handle: Parameters<Parameters<typeof writeChecked>[2]>[0]): Promise<void> => {
    writes++;
    await writeAll(handle, content, 0);
  };
  const check = () => writeChecked(path, size, write, { onDamaged: (name) => damaged.push(name) });
  await check();
  await check();
  expect(writes).toBe(1);
  const whole = await readFile(path);
  expect(whole).toEqual(Buffer.concat([content, Buffer.from(sha256(content), 'hex')]));
  for (const at of [0, size - 1, size]) {
    const bytes = Buffer.from(whole);
    bytes[at]! ^= 1;
    await writeFile(path, bytes);
    await check();
    expect(await readFile(path)).toEqual(whole);
  }
  expect(writes).toBe(4);
  expect(damaged).toEqual([path, path, path]);
  // A file of an older version has no digest.
  await writeFile(path, content);
  await check();
  expect(await readFile(path)).toEqual(whole);
  expect(damaged).toHaveLength(3);
});
