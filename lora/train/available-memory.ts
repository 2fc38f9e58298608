/** How much memory there is for training, where the system says it and where a control group limits it. */
import { readFileSync } from 'node:fs';
import { freemem, totalmem } from 'node:os';
import { join } from 'node:path';

/** Files of a version of Linux' control groups, below its folder. */
interface ControlGroups {
  readonly folder: string;
  /** Each in bytes, or "max". */
  readonly limits: readonly string[];
  /** What is in use, page cache included. */
  readonly current: string;
  /** Of memory.stat: pages of files, those of groups below included. */
  readonly filePages: readonly string[];
}

/** https://docs.kernel.org/admin-guide/cgroup-v2.html, Memory. Above memory.high it is slowed down until it is of no use. */
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
 * Bytes that this process and those that it starts may still take.
 *
 * Without a limit, what Node.js says: on Linux the kernel's MemAvailable, which counts pages of files as free, as the
 * kernel gives them up before it ends a process. Under the limit of a control group (a container's) Node.js says the
 * limit less all that is in use (uv_get_available_memory of libuv 1.52), and that counts such pages as taken: whoever
 * has just fetched a base or converted its weights would have no memory left. So they are added here, by the same rule
 * as without a limit; groups above the process's own count too, which Node.js passes over.
 *
 * @param root where the system's own files lie. @default '/'
 */
export function availableMemory(root = '/'): number {
  const rooms = roomsInGroups(root);
  return rooms.length === 0 ? process.availableMemory() : Math.min(freemem(), ...rooms);
}

/** For every group that the process is in and that has a limit, bytes. Files that are not there limit nothing. */
function roomsInGroups(root: string): number[] {
  const found = groupOf(read(join(root, 'proc/self/cgroup')));
  if (found === null) return [];
  const { version, path } = found;
  const top = join(root, version.folder);
  const names = path.split('/').filter((name) => name !== '');
  // Of a group outside of what a container shows only the container's own is to be seen.
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

/** null where the group has no limit, or one that is more than the machine has. */
function roomIn(group: string, { limits, current, filePages }: ControlGroups): number | null {
  const limit = Math.min(...limits.map((name) => bytes(read(join(group, name)))));
  const used = bytes(read(join(group, current)));
  if (limit >= totalmem() || used === Number.POSITIVE_INFINITY) return null;
  const stat = read(join(group, 'memory.stat'));
  const pages = filePages.map((name) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(stat)?.[1] ?? 0));
  return Math.max(0, limit - used + pages.reduce((sum, some) => sum + some, 0));
}

/** Infinity for "max", and for a file that is not there. */
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
