import { existsSync, readdirSync, readFileSync } from 'node:fs';

/**
 * Processor time of this process so far, all threads and the kernel's part included. For work on one thread it is what
 * the clock shows on an idle machine, or a little more, and it stays so on a busy one.
 */
export function cpuMilliseconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Ticks of /proc per second: USER_HZ, 100 on every Linux that Node.js runs on. */
const TICKS_PER_SECOND = 100;

/**
 * Processor time of the living processes of these process groups; null where there is no /proc. A process that has ended
 * no longer counts, so take differences while all live.
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

/** The process group of this process; 0 where there is no /proc. */
export function processGroup(): number {
  return processOf('self')?.group ?? 0;
}

/** See proc_pid_stat(5): fields from the third on, after the name in brackets, which may hold anything. */
function processOf(pid: string): { group: number; ticks: number } | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
    return { group: fields[2]!, ticks: fields[11]! + fields[12]! };
  } catch {
    // It has just ended.
    return null;
  }
}
