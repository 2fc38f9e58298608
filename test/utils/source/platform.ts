import { stat } from 'node:fs/promises';
import { expect, onTestFinished } from 'vitest';

/** Whether kill() sends a signal that the process can handle. On Windows it ends the process at once. */
export const HAS_SIGNALS = process.platform !== 'win32';

/** Changes `process.platform` until the test ends. The behaviour of the system itself stays the same. */
export function pretendPlatform(platform: NodeJS.Platform): void {
  const own = Object.getOwnPropertyDescriptor(process, 'platform')!;
  Object.defineProperty(process, 'platform', { ...own, value: platform });
  onTestFinished(() => void Object.defineProperty(process, 'platform', own));
}

/** Expects the permission bits of a file or folder. Windows has none. */
export async function expectMode(path: string, mode: number): Promise<void> {
  if (process.platform !== 'win32') expect((await stat(path)).mode & 0o777, path).toBe(mode);
}
