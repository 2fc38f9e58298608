/** Memory available for training: the available memory of the system, or less if a control group limits it. */
import { readFileSync } from 'node:fs';
import { freemem, totalmem } from 'node:os';
import { join } from 'node:path';
import { availableOnMac } from './mac-memory.ts';

/** Files in a control group's folder, for one version of Linux control groups. */
interface ControlGroups {
  readonly folder: string;
  /** Files that contain a limit in bytes, or "max" for no limit. */
  readonly limits: readonly string[];
  /** File that contains the memory that the control group uses, in bytes, with the page cache. */
  readonly current: string;
  /** Keys of memory.stat that count file pages, including the file pages of subgroups. */
  readonly filePages: readonly string[];
}

/**
 * Version 2 of control groups (https://docs.kernel.org/admin-guide/cgroup-v2.html, "Memory"). Above
 * memory.high the kernel throttles processes heavily, so memory.high counts as a limit.
 */
const VERSION_2: ControlGroups = {
  folder: 'sys/fs/cgroup',
  limits: ['memory.max', 'memory.high'],
  current: 'memory.current',
  filePages: ['active_file', 'inactive_file'],
};
/** Version 1 of control groups (https://docs.kernel.org/admin-guide/cgroup-v1/memory.html). */
const VERSION_1: ControlGroups = {
  folder: 'sys/fs/cgroup/memory',
  limits: ['memory.limit_in_bytes'],
  current: 'memory.usage_in_bytes',
  filePages: ['total_active_file', 'total_inactive_file'],
};

/**
 * Returns the bytes that this process and its children can still allocate.
 *
 * Without a control group's limit, the figure comes from the system. On Linux it is Node's figure, the kernel's
 * MemAvailable, which counts file pages as free because the kernel drops them before it kills a process. On macOS it is
 * vm_stat's figure (mac-memory.ts).
 *
 * With a limit (a container), Node returns the limit less all bytes in use (uv_get_available_memory of libuv 1.52).
 * That figure counts file pages as used, so after the download or conversion of a base no memory would seem left.
 * Therefore this function counts file pages as free under a limit too. It also applies the limits of parent groups,
 * which Node ignores.
 *
 * @param root folder of /proc and /sys. @default '/'
 */
export function availableMemory(root = '/'): number {
  const rooms = roomsInGroups(root);
  if (rooms.length > 0) return Math.min(freemem(), ...rooms);
  return availableOnMac() ?? process.availableMemory();
}

/**
 * Returns the free bytes of each control group of this process that has a memory limit. If the file of a limit is
 * missing, the control group has no limit.
 */
function roomsInGroups(root: string): number[] {
  const found = groupOf(read(join(root, 'proc/self/cgroup')));
  if (found === null) return [];
  const { version, path } = found;
  const top = join(root, version.folder);
  const names = path.split('/').filter((name) => name !== '');
  // The path has ".." if the control group of this process lies outside the mounted cgroup file system, as it can in a
  // container. In this case, only the root of that file system can be read.
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

/** Returns the free bytes of a control group; null if it has no limit, or a limit above the machine's memory. */
function roomIn(group: string, { limits, current, filePages }: ControlGroups): number | null {
  const limit = Math.min(...limits.map((name) => bytes(read(join(group, name)))));
  const used = bytes(read(join(group, current)));
  if (limit >= totalmem() || used === Number.POSITIVE_INFINITY) return null;
  const stat = read(join(group, 'memory.stat'));
  const pages = filePages.map((name) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(stat)?.[1] ?? 0));
  return Math.max(0, limit - used + pages.reduce((sum, some) => sum + some, 0));
}

/**
 * Parses the content of a file with a number of bytes. Returns Infinity for "max", and for the empty text that a
 * missing file gives.
 */
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
