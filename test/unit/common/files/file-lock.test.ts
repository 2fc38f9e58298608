import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { lockFolder, lockHome } from '../../../../common/files/file-lock.ts';
import { withCode } from '../../../utils/source/codes.ts';

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'swarm-lock-'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

it('locks a home for one holder at a time and names it in the error', () => {
  const release = lockHome(home);
  expect(() => lockHome(home)).toThrow(
    expect.objectContaining({ code: 'HOME_LOCKED', values: { home, pid: process.pid } }),
  );
  release();
  release();
  lockHome(home)();
});

it('locks any folder, with a code of its own', () => {
  const release = lockFolder(home);
  expect(() => lockFolder(home)).toThrow(
    expect.objectContaining({ code: 'FOLDER_LOCKED', values: { folder: home, pid: process.pid } }),
  );
  release();
});

it('frees the lock of a killed process at once', async () => {
  const module = join(import.meta.dirname, '../../../../common/files/file-lock.ts');
  const child = spawn(
    process.execPath,
    [
      '--expose-gc',
      '--input-type=module',
      '--eval',
      // The lock must hold even if the returned function is garbage collected.
      `import { lockHome } from ${JSON.stringify(module)}; lockHome(${JSON.stringify(home)});
       setTimeout(() => { gc(); process.stdout.write('held'); }); setInterval(() => {}, 1000);`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  await once(child.stdout, 'data');
  expect(() => lockHome(home)).toThrow(
    expect.objectContaining({ code: 'HOME_LOCKED', values: { home, pid: child.pid } }),
  );
  child.kill('SIGKILL');
  await once(child, 'exit');
  lockHome(home)();
});

it('says which file cannot be locked', () => {
  const path = join(home, 'lock');
  writeFileSync(path, 'no database, but longer than a header'.repeat(20));
  expect(() => lockHome(home)).toThrow(withCode('LOCK_UNUSABLE', { path }));
  rmSync(path);
  lockHome(home)();
});
