import { expect, it } from 'vitest';
import { linuxProbe } from '../../../../../node/limits/machine/linux.ts';
import { macosProbe, parsePs } from '../../../../../node/limits/machine/macos.ts';
import { type ProbeDeps, secondsOfTree } from '../../../../../node/limits/machine/probe.ts';
import { probeOf } from '../../../../../node/limits/machine/probe-of.ts';
import { windowsProbe } from '../../../../../node/limits/machine/windows.ts';

/** Returns a system with these files and outputs of programs, and nothing else. */
function systemWith(files: Record<string, string>, outputs: Record<string, string> = {}): ProbeDeps {
  return {
    text: async (path) => files[path.replaceAll('\\', '/')] ?? null,
    names: async (folder) => {
      const inside = Object.keys(files).filter((path) => path.startsWith(`${folder}/`));
      return [...new Set(inside.map((path) => path.slice(folder.length + 1).split('/')[0]!))];
    },
    output: async (program) => outputs[program] ?? null,
    busySeconds: () => 1234.5,
  };
}

/** Returns the beginning of /proc/PID/stat of Linux 6.1. */
const stat = (pid: number, utime: number, stime: number, cutime = 0, cstime = 0) =>
  `${pid} (node (main) x) S 1 ${pid} ${pid} 0 -1 4194304 29 0 1 0 ${utime} ${stime} ${cutime} ${cstime} 20 0 11 0 5 123`;

const LINUX = {
  '/proc/stat': 'cpu  1000 200 300 40000 500 6 7 80 0 0\ncpu0 500 100 150 20000 250 3 3 40 0 0\n',
  '/proc/10/stat': stat(10, 100, 20, 3, 4),
  '/proc/10/task/10/children': '11 12 ',
  '/proc/11/stat': stat(11, 1000, 200),
  '/proc/11/task/11/children': '13 ',
  '/proc/12/stat': stat(12, 1, 1),
  '/proc/13/stat': stat(13, 5, 5),
};

/** The files of a laptop with a mouse that has a battery of its own, in the format of Linux 6.1. */
const laptop = (online: string, status: string) => ({
  '/sys/class/power_supply/AC/type': 'Mains\n',
  '/sys/class/power_supply/AC/online': `${online}\n`,
  '/sys/class/power_supply/BAT0/type': 'Battery\n',
  '/sys/class/power_supply/BAT0/status': `${status}\n`,
  '/sys/class/power_supply/hidpp_battery_0/type': 'Battery\n',
  '/sys/class/power_supply/hidpp_battery_0/scope': 'Device\n',
  '/sys/class/power_supply/hidpp_battery_0/status': 'Discharging\n',
});

it('Linux: sums the ticks of the machine and of the node with its children, also of those that have ended', async () => {
  expect(await linuxProbe(systemWith(LINUX)).read(10)).toEqual({
    busySeconds: 15.13,
    ownSeconds: 13.39,
    onBattery: false,
    hasUser: false,
  });
  expect(await linuxProbe(systemWith({})).read(10)).toMatchObject({ busySeconds: null, ownSeconds: null });
});

it.each([
  ['1', 'Charging', false],
  ['1', 'Discharging', false],
  ['0', 'Discharging', true],
  ['0', 'Not charging', false],
])('Linux: a laptop with the mains at %s and a battery that is %s', async (online, status, onBattery) => {
  const read = await linuxProbe(systemWith(laptop(online, status))).read(10);
  expect(read).toMatchObject({ onBattery, hasUser: true });
});

it.each([
  ['UID=1000\nUSER=ada\nACTIVE=1\nTYPE=wayland\nCLASS=user\n', true],
  ['UID=1000\nUSER=ada\nACTIVE=1\nTYPE=tty\nCLASS=user\nREMOTE=1\n', false],
  ['UID=114\nUSER=gdm\nACTIVE=1\nTYPE=wayland\nCLASS=greeter\n', false],
])('Linux: a session %j is a user at the screen: %s', async (session, hasUser) => {
  const files = { '/run/systemd/sessions/2': session, '/tmp/.X11-unix/X0': '' };
  expect(await linuxProbe(systemWith(files)).read(1)).toMatchObject({ hasUser });
});

it('Linux: an X server without systemd is a user at the screen; a mouse with a battery is not', async () => {
  expect(await linuxProbe(systemWith({ '/tmp/.X11-unix/X0': '' })).read(1)).toMatchObject({ hasUser: true });
  const mouse = Object.entries(laptop('1', 'Full')).filter(([path]) => path.includes('hidpp'));
  const read = await linuxProbe(systemWith(Object.fromEntries(mouse))).read(1);
  expect(read).toMatchObject({ hasUser: false, onBattery: false });
});

// Outputs in the format that the manual pages of macOS 14 describe. They were not captured on such a machine.
const PS = `
    1     0   1:02.03
  501     1  12:30.50
  502   501 1:00:00.25
  503   502   0:00.25
  600     1 2-03:00:00.00
`;
const pmset = (from: string, battery: boolean) =>
  `Now drawing from '${from}'\n${battery ? ' -InternalBattery-0 (id=4653155)\t87%; discharging; 5:21 remaining present: true\n' : ''}`;

it('macOS: reads pmset, ps and the owner of the console', async () => {
  const read = (power: string, owner: string) =>
    macosProbe(
      systemWith({}, { '/usr/bin/pmset': power, '/bin/ps': PS, '/usr/bin/stat': `${owner}\n` }),
    ).read(501);
  expect(await read(pmset('Battery Power', true), 'ada')).toEqual({
    busySeconds: 1234.5,
    ownSeconds: 750.5 + 3600.25 + 0.25,
    onBattery: true,
    hasUser: true,
  });
  expect(await read(pmset('AC Power', true), 'root')).toMatchObject({ onBattery: false, hasUser: true });
  expect(await read(pmset('AC Power', false), 'root')).toMatchObject({ onBattery: false, hasUser: false });
  expect(await read(pmset('AC Power', false), 'ada')).toMatchObject({ hasUser: true });
  expect(await macosProbe(systemWith({})).read(501)).toMatchObject({ ownSeconds: null, hasUser: false });
  expect(parsePs(PS).find(({ pid }) => pid === 600)!.seconds).toBe(51 * 3600);
});

// An answer in the format that PowerShell 5.1 documents. It was not captured on a Windows machine.
const windows = (status: number | null, shell: string) =>
  JSON.stringify({
    processes: [
      { ProcessId: 4, ParentProcessId: 0, Name: 'System', KernelModeTime: 9e9, UserModeTime: 0 },
      { ProcessId: 900, ParentProcessId: 4, Name: shell, KernelModeTime: 1e7, UserModeTime: 2e7 },
      { ProcessId: 501, ParentProcessId: 900, Name: 'node.exe', KernelModeTime: 1e7, UserModeTime: 4e7 },
      { ProcessId: 502, ParentProcessId: 501, Name: 'node.exe', KernelModeTime: 0, UserModeTime: 5e6 },
    ],
    batteries: status === null ? [] : [{ BatteryStatus: status }],
  });

it.each([
  [1, 'explorer.exe', true, true],
  [2, 'winlogon.exe', false, true],
  [null, 'explorer.exe', false, true],
  [null, 'winlogon.exe', false, false],
] as const)('Windows: battery %s and %s', async (status, shell, onBattery, hasUser) => {
  const probe = windowsProbe(systemWith({}, { 'powershell.exe': windows(status, shell) }));
  expect(await probe.read(501)).toEqual({ busySeconds: 1234.5, ownSeconds: 5.5, onBattery, hasUser });
});

it('Windows: without an answer of PowerShell the use is unknown', async () => {
  for (const output of [null, 'not JSON']) {
    const system = { ...systemWith({}), output: async () => output };
    expect(await windowsProbe(system).read(501)).toMatchObject({ ownSeconds: null });
  }
});

it('a process that is its own parent does not end the program', () => {
  expect(secondsOfTree([{ pid: 1, parent: 1, seconds: 2 }], 1)).toBe(2);
  expect(secondsOfTree([], 1)).toBeNull();
});

it('this system is read, if this program knows it', async ({ skip }) => {
  const probe = probeOf(process.platform);
  if (probe === null || process.platform === 'win32') return skip('no probe, or a slow one');
  const { busySeconds, ownSeconds } = await probe.read(process.pid);
  expect(ownSeconds).toBeGreaterThan(0);
  expect(busySeconds).toBeGreaterThan(0);
  expect(probeOf('aix')).toBeNull();
});
