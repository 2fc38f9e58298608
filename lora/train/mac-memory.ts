import { execFileSync } from 'node:child_process';

/** It answers in some milliseconds. */
const DEADLINE_MS = 2_000;

/**
 * Returns the bytes that processes may still take on macOS; null elsewhere, and where vm_stat does not say. Node.js counts
 * only free pages there (uv_get_free_memory of libuv), which are few on any Mac in use.
 */
export function availableOnMac(): number | null {
  if (process.platform !== 'darwin') return null;
  try {
    const stdio = ['ignore', 'pipe', 'ignore'] as const;
    return parseVmStat(
      execFileSync('/usr/bin/vm_stat', { encoding: 'utf8', timeout: DEADLINE_MS, stdio: [...stdio] }),
    );
  } catch {
    return null;
  }
}

/**
 * Returns the bytes of free, speculative and inactive pages, as psutil's virtual_memory().available does; null for a text
 * without them. vm_stat lists speculative pages apart from the free ones that they belong to.
 */
export function parseVmStat(text: string): number | null {
  const number = (pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? Number.NaN);
  const pages =
    number(/^Pages free:\s+(\d+)/m) +
    number(/^Pages speculative:\s+(\d+)/m) +
    number(/^Pages inactive:\s+(\d+)/m);
  const bytes = pages * number(/page size of (\d+) bytes/);
  return Number.isNaN(bytes) ? null : bytes;
}
