import { readdir, readFile } from 'node:fs/promises';

/** Returns the ids of the child processes of a process. Works only on Linux. */
export async function childrenOf(pid: number): Promise<number[]> {
  const found: number[] = [];
  for (const name of (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))) {
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
    if (Number(stat.slice(stat.lastIndexOf(')') + 4).split(' ')[0]) === pid) found.push(Number(name));
  }
  return found;
}
