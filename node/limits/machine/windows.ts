import { type MachineProbe, type ProbeDeps, type ProcessRow, secondsOfTree } from './probe.ts';

/** Asks CIM for the processes and the battery. If explorer.exe is one of the processes, a user is logged in. */
const SCRIPT = `
$p = Get-CimInstance Win32_Process | Select-Object ProcessId,ParentProcessId,Name,KernelModeTime,UserModeTime
$b = Get-CimInstance Win32_Battery | Select-Object BatteryStatus
@{ processes = @($p); batteries = @($b) } | ConvertTo-Json -Depth 3 -Compress`;

/** Values of BatteryStatus for a battery that discharges: discharging, low, critical. */
const DISCHARGING = [1, 4, 5];
/** Units per second of the times of Win32_Process. */
const UNITS = 1e7;

interface Answer {
  readonly processes: readonly {
    readonly ProcessId: number;
    readonly ParentProcessId: number;
    readonly Name: string;
    readonly KernelModeTime: number;
    readonly UserModeTime: number;
  }[];
  readonly batteries: readonly { readonly BatteryStatus: number }[];
}

/**
 * Returns the probe that reads the machine with PowerShell. A call takes about a second of processor time, so calls are
 * rare.
 */
export function windowsProbe({ output, busySeconds }: ProbeDeps): MachineProbe {
  return {
    everyMs: 30_000,
    read: async (pid) => {
      const text = await output('powershell.exe', '-NoProfile', '-NonInteractive', '-Command', SCRIPT);
      const answer = text === null ? null : parsed(text);
      if (answer === null) return { busySeconds: null, ownSeconds: null, onBattery: false, hasUser: true };
      const { processes, batteries } = answer;
      const rows = processes.map(
        (one): ProcessRow => ({
          pid: one.ProcessId,
          parent: one.ParentProcessId,
          seconds: (one.KernelModeTime + one.UserModeTime) / UNITS,
        }),
      );
      return {
        busySeconds: busySeconds(),
        ownSeconds: secondsOfTree(rows, pid),
        onBattery: batteries.some(({ BatteryStatus }) => DISCHARGING.includes(BatteryStatus)),
        hasUser: batteries.length > 0 || processes.some(({ Name }) => Name === 'explorer.exe'),
      };
    },
  };
}

function parsed(text: string): Answer | null {
  try {
    return JSON.parse(text) as Answer;
  } catch {
    // PowerShell may print a warning instead of JSON. The next reading asks again.
    return null;
  }
}
