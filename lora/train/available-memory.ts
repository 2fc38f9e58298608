/** Memory available for training: that of the system, or less where a control group limits it. */
import { readFileSync } from 'node:fs';
import { freemem, totalmem } from 'node:os';
import { join } from 'node:path';
import { availableOnMac } from './mac-memory.ts';

/** Files of a version of Linux control groups, in the folder of a group. */
interface ControlGroups {
  readonly folder: string;
  /** Files with a limit in bytes, or "max". */
  readonly limits: readonly string[];
  /** File with the bytes in use, page cache included. */
  readonly current: string;
  /** Keys of memory.stat for pages of files, those of subgroups included. */
  readonly filePages: readonly string[];
}

/**
 * https://docs.kernel.org/admin-guide/cgroup-v2.html, Memory. Above memory.high the kernel slows processes to a crawl.
 */
const VERSION_2: ControlGroups = {
  folder: 'sys/fs/cgroup',
  limits: ['memory.max', 'memory.high'],
  current: 'memory.current',
  filePages: ['active_file', 'inactive_file'],
};
/** https://docs.kernel.org/admin-guide/cgroup-v1/memory.html */
const VERSION_1: ControlGroups = {
  folder: 'sys/fs/cgroup/memory',
  limits: ['memory.limit_in_bytes'],
  current: 'memory.usage_in_bytes',
  filePages: ['total_active_file', 'total_inactive_file'],
};

/**
 * Returns the bytes that this process and its children can still allocate.
 *
 * Without a limit this is Node's figure (on macOS vm_stat's): on Linux the kernel's MemAvailable, which counts pages of files as free, because
 * the kernel drops them before it kills a process. On macOS it is that of vm_stat (mac-memory.ts). Under the limit of a
 * control group (a container), Node returns the limit less all bytes in use (uv_get_available_memory of libuv 1.52). That
 * counts pages of files as used: after a base was downloaded or converted, no memory would seem left. So these pages are
 * added here, as without a limit. Parent groups count too, which Node ignores.
 *
 * @param root folder of /proc and /sys. @default '/'
 */
export function availableMemory(root = '/'): number {
  const rooms = roomsInGroups(root);
  if (rooms.length > 0) return Math.min(freemem(), ...rooms);
  return availableOnMac() ?? process.availableMemory();
}

/** Free bytes of every group of this process that has a limit. Missing files count as no limit. */
function roomsInGroups(root: string): number[] {
  const found = groupOf(read(join(root, 'proc/self/cgroup')));
  if (found === null) return [];
  const { version, path } = found;
  const top = join(root, version.folder);
  const names = path.split('/').filter((name) => name !== '');
  // A container can be in a group outside its own file system; then only its root group is visible.
  const depth = names.includes('..') ? 0 : names.length;
  return Array.from({ length: depth + 1 }, (_, up) => join(top, ...names.slice(0, depth - up))).flatMap(
    (group) => roomIn(group, version) ?? [],
  );
}

function groupOf(text: string): { version: ControlGroups; path: string } | null {
  const lines = text.split('\n').map((line) => /^(\d+):([^:]*):(.*)$/.exec(line));
  const first = lines.find((line) => line?.[2]?.split(',').includes('memory'));
  if (first) return { version: VERSION_1, path: first[3]! };
  const second = lines.find((line) => line?.[1] === '0' && line[2] === '');
  return second ? { version: VERSION_2, path: second[3]! } : null;
}

/** Free bytes of a group; null where it has no limit, or one above the machine's memory. */
function roomIn(group: string, { limits, current, filePages }: ControlGroups): number | null {
  const limit = Math.min(...limits.map((name) => bytes(read(join(group, name)))));
  const used = bytes(read(join(group, current)));
  if (limit >= totalmem() || used === Number.POSITIVE_INFINITY) return null;
  const stat = read(join(group, 'memory.stat'));
  const pages = filePages.map((name) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(stat)?.[1] ?? 0));
  return Math.max(0, limit - used + pages.reduce((sum, some) => sum + some, 0));
}

/** Parses a number of bytes. Infinity for "max" and for a missing file. */
function bytes(text: string): number {
  return /^\d+\s*$/.test(text) ? Number(text) : Number.POSITIVE_INFINITY;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
