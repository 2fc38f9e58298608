import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { linuxProbe } from './linux.ts';
import { macosProbe } from './macos.ts';
import type { MachineProbe, ProbeDeps } from './probe.ts';
import { windowsProbe } from './windows.ts';

/**
 * Time limit of a program that a probe runs, in milliseconds. PowerShell takes a few seconds on a slow
 * machine.
 */
const PROGRAM_MS = 20_000;
/** Maximum output of a program in bytes. PowerShell lists a thousand processes in about 150 KB. */
const OUTPUT_BYTES = 4 * 1024 * 1024;

const system: ProbeDeps = {
  // Some machines lack some of these files and programs, for example the files about a battery. The functions then return null
  // or an empty list, which the probes treat as unknown.
  text: (path) => readFile(path, 'utf8').catch(() => null),
  names: (folder) => readdir(folder).catch(() => []),
  output: (program, ...args) =>
    new Promise((resolve) => {
      const options = { timeout: PROGRAM_MS, maxBuffer: OUTPUT_BYTES, windowsHide: true };
      execFile(program, args, options, (error, stdout) => resolve(error === null ? stdout : null));
    }),
  busySeconds: () =>
    cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0) / 1000,
};

/** Returns the probe for an operating system; null if this program has no probe for it. */
export function probeOf(platform: NodeJS.Platform, deps: ProbeDeps = system): MachineProbe | null {
  if (platform === 'linux') return linuxProbe(deps);
  if (platform === 'darwin') return macosProbe(deps);
  return platform === 'win32' ? windowsProbe(deps) : null;
}
