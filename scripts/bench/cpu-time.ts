import { existsSync, readdirSync, readFileSync } from 'node:fs';

/**
 * Returns the processor time of this process so far, including all threads and time in the kernel. For work
 * on one thread, the processor time is about the wall time on an idle machine. Other load does not change the
 * processor time.
 */
export function cpuMilliseconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Number of ticks per second in which /proc counts processor time (USER_HZ): 100 on every Linux that Node.js runs on. */
const TICKS_PER_SECOND = 100;

/**
 * Returns the processor time, in milliseconds, that the running processes of these process groups have used
 * so far. Returns null on a system without /proc. A process that has ended no longer counts, so a difference
 * between two results is valid only while all processes run.
 */
export function groupCpuMilliseconds(groups: readonly number[]): number | null {
  if (!existsSync('/proc/self/stat')) return null;
  let ticks = 0;
  for (const name of readdirSync('/proc')) {
    const found = /^\d+$/.test(name) ? processOf(name) : null;
    if (found !== null && groups.includes(found.group)) ticks += found.ticks;
  }
  return (ticks / TICKS_PER_SECOND) * 1000;
}

/** Returns the process group of this process. Returns 0 on a system without /proc. */
export function processGroup(): number {
  return processOf('self')?.group ?? 0;
}

/** Reads the fields after the process name, which is in brackets and may contain anything. See proc_pid_stat(5). */
function processOf(pid: string): { group: number; ticks: number } | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
    return { group: fields[2]!, ticks: fields[11]! + fields[12]! };
  } catch {
    // The process has ended.
    return null;
  }
}
