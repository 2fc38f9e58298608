import { spawnSync } from 'node:child_process';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../../utils/folder.ts';

const page = fileURLToPath(new URL('../../../docs/operations.md', import.meta.url));

/** Returns the commands of a section that do not start or stop a daemon, with the path of the home filled in. */
async function commandsOf(section: string, home: string): Promise<string> {
  const text = (await readFile(page, 'utf8')).split(`\n## ${section}\n`)[1]!.split('\n## ')[0]!;
  const commands = [...text.matchAll(/^\$ (.*)$/gm)].map(([, command]) => command!);
  return commands
    .filter((command) => !/^(kill|npx) /.test(command))
    .join('\n')
    .replaceAll('HOME_C', home)
    .replaceAll('/new/place', join(home, '..', 'new-place'));
}

it.skipIf(process.platform === 'win32')(
  'docs/operations.md backs up, restores and moves a home',
  async () => {
    const folder = await temporaryFolder();
    const [disk, home] = [join(folder, 'disk'), join(folder, 'home')];
    await mkdir(disk);
    // The home is a link to another disk.
    await symlink(disk, home);
    await writeFile(join(home, 'identity'), 'key');
    const run = async (section: string): Promise<void> => {
      const { status, stderr } = spawnSync('sh', ['-e', '-c', await commandsOf(section, home)], {
        cwd: folder,
        encoding: 'utf8',
      });
      expect({ section, status, stderr }).toEqual({ section, status: 0, stderr: '' });
    };
    await run('Back up');
    await writeFile(join(home, 'identity'), 'damaged');
    await run('Restore');
    expect(await readFile(join(home, 'identity'), 'utf8')).toBe('key');
    await run('Move to another machine or address');
    expect(await readFile(join(folder, 'new-place', 'coordinator', 'identity'), 'utf8')).toBe('key');
  },
);
