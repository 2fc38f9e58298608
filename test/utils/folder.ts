import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** Creates an empty folder. It is deleted when the test ends. */
export async function temporaryFolder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'swarm-test-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** Copies a folder, so that the test may change it. */
export async function copyOf(source: string): Promise<string> {
  const dir = join(await temporaryFolder(), 'copy');
  await cp(source, dir, { recursive: true });
  return dir;
}
