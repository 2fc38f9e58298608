import { existsSync } from 'node:fs';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cacheFolder } from '../../../cli/folders.ts';
import { claimOutput, makeFolder, requireNoFile } from '../../../common/files/folders.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { withCode } from '../../utils/source/codes.ts';
import { expectMode } from '../../utils/source/platform.ts';

describe('folders', () => {
  it('are created with their parents, or already exist', async () => {
    const path = join(await temporaryFolder(), 'a', 'b', 'c');
    await makeFolder(path, { mode: 0o700 });
    await makeFolder(path);
    await expectMode(path, 0o700);
    await Promise.all([1, 2, 3].map(() => makeFolder(join(path, 'd', 'e'))));
    expect(existsSync(join(path, 'd', 'e'))).toBe(true);
  });

  it('of caches are private when they are new, and keep the permissions that their owner gave them', async () => {
    const cwd = await temporaryFolder();
    const environment = { SWARM_CACHE: 'cache' };
    await expectMode(await cacheFolder({ environment, cwd }), 0o700);
    await mkdir(join(cwd, 'shared'));
    await chmod(join(cwd, 'shared'), 0o755);
    await expectMode(await cacheFolder({ environment: { SWARM_CACHE: 'shared' }, cwd }), 0o755);
  });

  it('that cannot be created are refused, even when the system hides why', async () => {
    const file = join(await temporaryFolder(), 'file');
    await writeFile(file, '');
    const impossible = [
      file,
      join(file, 'below'),
      ...(existsSync('/proc/self') ? ['/proc/x/y', '/proc/x'] : []),
    ];
    for (const path of impossible) {
      await expect(makeFolder(path), path).rejects.toMatchObject({ code: 'FOLDER_UNUSABLE' });
    }
  });

  it('that have the name of a file, or are below one, are refused with the path of the file', async () => {
    const file = join(await temporaryFolder(), 'file');
    await writeFile(file, '');
    const code = 'FOLDER_UNUSABLE';
    await expect(makeFolder(file)).rejects.toMatchObject({ code, values: { path: file } });
    const below = join(file, 'below');
    await expect(makeFolder(below)).rejects.toMatchObject({
      code,
      values: { path: below, reason: expect.stringMatching(new RegExp(`${file}(?!/)`)) },
    });
  });

  it('are refused before long work if a file has their name or that of a parent; nothing is created', async () => {
    const dir = await temporaryFolder();
    const file = join(dir, 'file');
    await writeFile(file, '');
    await requireNoFile(dir);
    await requireNoFile(join(dir, 'new', 'below'));
    expect(existsSync(join(dir, 'new'))).toBe(false);
    for (const path of [file, join(file, 'below', 'it')]) {
      await expect(requireNoFile(path)).rejects.toEqual(withCode('FOLDER_UNUSABLE', { path }));
      await expect(requireNoFile(path)).rejects.toThrow(file);
    }
  });

  it('for the cache are refused with the name of their variable', async () => {
    const file = join(await temporaryFolder(), 'file');
    await writeFile(file, '');
    const error = await cacheFolder({ environment: { SWARM_CACHE: join(file, 'x') }, cwd: '/' }).catch(
      (e) => e,
    );
    expect(error).toMatchObject({
      values: { path: join(file, 'x') },
      next: expect.stringContaining('SWARM_CACHE'),
    });
  });

  it('that are not empty are written to only with force', async () => {
    const dir = join(await temporaryFolder(), 'out');
    await claimOutput(dir, { force: false });
    await claimOutput(dir, { force: false });
    await mkdir(join(dir, 'mine'));
    await expect(claimOutput(dir, { force: false })).rejects.toMatchObject({ code: 'OUTPUT_EXISTS' });
    await claimOutput(dir, { force: true });
  });
});
