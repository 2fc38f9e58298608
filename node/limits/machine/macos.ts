import { type MachineProbe, type ProbeDeps, type ProcessRow, secondsOfTree } from './probe.ts';

/** Asks `pmset`, `ps` and `stat` of macOS. */
export function macosProbe({ output, busySeconds }: ProbeDeps): MachineProbe {
  return {
    everyMs: 10_000,
    read: async (pid) => {
      const [power, processes, owner] = await Promise.all([
        output('/usr/bin/pmset', '-g', 'batt'),
        output('/bin/ps', '-A', '-o', 'pid=,ppid=,time='),
        // The user at the screen owns the console. Without such a user, root owns it.
        output('/usr/bin/stat', '-f', '%Su', '/dev/console'),
      ]);
      const user = owner?.trim() ?? 'root';
      return {
        busySeconds: busySeconds(),
        ownSeconds: processes === null ? null : secondsOfTree(parsePs(processes), pid),
        onBattery: power?.includes("'Battery Power'") ?? false,
        hasUser: (power?.includes('InternalBattery') ?? false) || user !== 'root',
      };
    },
  };
}

/** Parses the output of ps, whose times have the form [days-][hours:]minutes:seconds. */
export function parsePs(text: string): ProcessRow[] {
  return text.split('\n').flatMap((line) => {
    const [, pid, parent, days = '0', hours = '0', minutes, seconds] =
      /^\s*(\d+)\s+(\d+)\s+(?:(\d+)-)?(?:(\d+):)?(\d+):([\d.]+)\s*$/.exec(line) ?? [];
    if (pid === undefined) return [];
    const time = ((Number(days) * 24 + Number(hours)) * 60 + Number(minutes)) * 60 + Number(seconds);
    return [{ pid: Number(pid), parent: Number(parent), seconds: time }];
  });
}
