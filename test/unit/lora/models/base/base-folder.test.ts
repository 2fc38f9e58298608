import { mkdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { layOutBase } from '../../../../../lora/models/base/base-folder.ts';
import { type BaseFile, baseDigest } from '../../../../../lora/models/base/base-identity.ts';
import { sha256 } from '../../../../../protocol/cbor.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';

/** Writes contents under their digests, as in a blob store. */
async function stored(...texts: string[]) {
  const home = await temporaryFolder();
  const pathOf = (digest: string): string => join(home, 'blobs', digest);
  await mkdir(join(home, 'blobs'));
  const digests: string[] = [];
  for (const text of texts) {
    const digest = sha256(Buffer.from(text));
    await writeFile(pathOf(digest), text);
    digests.push(digest);
  }
  const layOut = (...paths: string[]): Promise<string> => {
    const files: BaseFile[] = paths.map((path, i) => ({
      path,
      size: texts[i]!.length,
      digest: digests[i]!,
    }));
    return layOutBase({ home, base: { digest: baseDigest(files), files }, pathOf });
  };
  return {
    home,
    layOut,
    pathAt: (i: number) => pathOf(digests[i]!),
    content: (i: number) => readFile(pathOf(digests[i]!), 'utf8'),
  };
}

describe('a base folder', () => {
  it('links every file name to its content, and is made only once', async () => {
    const { layOut } = await stored('{}', 'weights');
    const folder = await layOut('config.json', 'model.safetensors');
    expect(await readFile(join(folder, 'config.json'), 'utf8')).toBe('{}');
    const { ino } = await stat(join(folder, 'model.safetensors'));
    expect(await layOut('config.json', 'model.safetensors')).toBe(folder);
    expect((await stat(join(folder, 'model.safetensors'))).ino).toBe(ino);
  });

  it('is made again if a stored file was replaced, and refused while a small file is damaged', async () => {
    const { layOut, pathAt } = await stored('{}', 'weights');
    const paths = ['config.json', 'model.safetensors'] as const;
    const folder = await layOut(...paths);
    // The file in the folder is a hard link, so this damages both.
    await writeFile(pathAt(0), '[]');
    await expect(layOut(...paths)).rejects.toMatchObject({
      code: 'BASE_FILE_DAMAGED',
      values: { file: 'config.json', digest: sha256(Buffer.from('{}')) },
    });
    await rm(pathAt(0));
    await expect(layOut(...paths)).rejects.toMatchObject({ code: 'BASE_FILE_DAMAGED' });
    await writeFile(pathAt(0), '{}');
    expect(await layOut(...paths)).toBe(folder);
    const { ino } = await stat(join(folder, 'config.json'));
    await rm(pathAt(0));
    await writeFile(pathAt(0), '{}');
    await utimes(pathAt(0), Date.now() / 1000 + 100, Date.now() / 1000 + 100);
    await layOut(...paths);
    expect((await stat(join(folder, 'config.json'))).ino).not.toBe(ino);
    // If the stored file is gone, the file in the folder is the only copy and stays.
    await rm(pathAt(0));
    expect(await layOut(...paths)).toBe(folder);
  });

  it('is made once for callers that need it at the same time', async () => {
    const { layOut } = await stored('{}', 'weights');
    const folders = await Promise.all(
      Array.from({ length: 8 }, () => layOut('config.json', 'model.safetensors')),
    );
    expect(new Set(folders).size).toBe(1);
    expect(await readFile(join(folders[0]!, 'model.safetensors'), 'utf8')).toBe('weights');
  });

  it('keeps its files if it cannot be made again', async () => {
    const { layOut, pathAt } = await stored('{}', 'weights');
    const folder = await layOut('config.json', 'model.safetensors');
    await rm(join(folder, 'config.json'));
    await rm(pathAt(1));
    const again = layOut('config.json', 'model.safetensors');
    await expect(again).rejects.toMatchObject({ code: 'BASE_FILE_DAMAGED' });
    expect(await readFile(join(folder, 'model.safetensors'), 'utf8')).toBe('weights');
  });

  it('never writes through a link into the content of another digest', async () => {
    const { layOut, content } = await stored('the weights of another job', 'replacement of an attacker');
    await expect(layOut('model.safetensors', 'model.safetensors')).rejects.toMatchObject({ code: 'EEXIST' });
    expect(await content(0)).toBe('the weights of another job');
  });

  it('is refused if its digest is not that of its files', async () => {
    const { home } = await stored('{}');
    const files = [{ path: 'config.json', size: 2, digest: sha256(Buffer.from('{}')) }];
    await expect(
      layOutBase({ home, base: { digest: 'ab'.repeat(32), files }, pathOf: () => '' }),
    ).rejects.toMatchObject({ code: 'BASE_DIGEST' });
  });
});
