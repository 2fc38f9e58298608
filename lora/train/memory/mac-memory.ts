import { execFileSync } from 'node:child_process';

/** Time limit of vm_stat, which normally answers within a few milliseconds. */
const DEADLINE_MS = 2_000;

/**
 * Returns the bytes that processes can still allocate on macOS; null on other systems, or if vm_stat gives no figure.
 * On macOS, Node.js counts only free pages (uv_get_free_memory of libuv), which are few on any Mac in use.
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
 * Returns the bytes of free, speculative and inactive pages, as psutil's virtual_memory().available does; null if the
 * text lacks them. Speculative pages are free pages, but vm_stat does not include them in its count of free pages.
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
