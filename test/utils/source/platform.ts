import { readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { temporaryFolder } from '../folder.ts';

/** Whether kill() sends a signal that the process can handle. On Windows it ends the process at once. */
export const HAS_SIGNALS = process.platform !== 'win32';

/** Changes `process.platform` until the test ends. The behaviour of the system itself stays the same. */
export function pretendPlatform(platform: NodeJS.Platform): void {
  const own = Object.getOwnPropertyDescriptor(process, 'platform')!;
  Object.defineProperty(process, 'platform', { ...own, value: platform });
  onTestFinished(() => void Object.defineProperty(process, 'platform', own));
}

/** Expects that all files in a folder have the permission bits of a new file. */
export async function expectNewFiles(dir: string): Promise<void> {
  const fresh = join(await temporaryFolder(), 'fresh');
  await writeFile(fresh, '');
  const { mode } = await stat(fresh);
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  for (const entry of entries)
    if (entry.isFile()) await expectMode(join(entry.parentPath, entry.name), mode & 0o777);
}

/** Expects the permission bits of a file or folder. Windows has none. */
export async function expectMode(path: string, mode: number): Promise<void> {
  if (process.platform !== 'win32') expect((await stat(path)).mode & 0o777, path).toBe(mode);
}
