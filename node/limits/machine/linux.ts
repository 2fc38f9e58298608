import { join } from 'node:path';
import type { MachineProbe, ProbeDeps } from './probe.ts';

/** Ticks per second in /proc: USER_HZ, which is 100 on all processors that onnxruntime supports. */
const TICKS = 100;
const SUPPLIES = '/sys/class/power_supply';

/** Reads /proc and /sys. @see proc(5), and Documentation/ABI/testing/sysfs-class-power of Linux */
export function linuxProbe(deps: ProbeDeps): MachineProbe {
  return {
    everyMs: 5_000,
    read: async (pid) => {
      const [stat, own, supplies, atScreen] = await Promise.all([
        deps.text('/proc/stat'),
        treeTicks(pid, deps),
        powerSupplies(deps),
        hasScreenUser(deps),
      ]);
      const batteries = supplies.filter(({ type, scope }) => type === 'Battery' && scope !== 'Device');
      const isPluggedIn = supplies.some(({ type, online }) => type !== 'Battery' && online === '1');
      return {
        busySeconds: stat === null ? null : busyTicks(stat) / TICKS,
        ownSeconds: own === null ? null : own / TICKS,
        onBattery: !isPluggedIn && batteries.some(({ status }) => status === 'Discharging'),
        hasUser: batteries.length > 0 || atScreen,
      };
    },
  };
}

/** Returns the ticks of all processes: user, nice, system, irq and softirq of the first line of /proc/stat. */
function busyTicks(stat: string): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = stat
    .split('\n')[0]!
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return user + nice + system + irq + softirq;
}

/**
 * Returns the ticks of a process and its children. Includes the time of children that have ended (cutime, cstime), so that
 * the sum does not fall.
 */
async function treeTicks(pid: number, deps: ProbeDeps): Promise<number | null> {
  const stat = await deps.text(`/proc/${pid}/stat`);
  if (stat === null) return null;
  // The name in parentheses may contain spaces. The fields after the name begin with the third field, the state.
  const fields = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  const own = fields.slice(11, 15).reduce((sum, ticks) => sum + ticks, 0);
  const children = (await deps.text(`/proc/${pid}/task/${pid}/children`))?.trim().split(/\s+/) ?? [];
  const ticks = await Promise.all(
    children.filter((child) => child !== '').map((child) => treeTicks(Number(child), deps)),
  );
  return ticks.reduce<number>((sum, some) => sum + (some ?? 0), own);
}

async function powerSupplies({ names, text }: ProbeDeps) {
  return Promise.all(
    (await names(SUPPLIES)).map(async (name) => {
      const field = async (file: string) => (await text(join(SUPPLIES, name, file)))?.trim() ?? null;
      const [type, scope, online, status] = await Promise.all(
        ['type', 'scope', 'online', 'status'].map(field),
      );
      return { type, scope, online, status };
    }),
  );
}

/** Returns whether a graphical session runs, as a session of systemd-logind or as an X server. */
async function hasScreenUser({ names, text }: ProbeDeps): Promise<boolean> {
  const folder = '/run/systemd/sessions';
  const sessions = (await names(folder)).filter((name) => !name.endsWith('.ref'));
  const texts = await Promise.all(sessions.map((name) => text(join(folder, name))));
  // The login screen is a session of the class "greeter", which belongs to no user.
  const isUser = (session: string | null): boolean =>
    session !== null && /^TYPE=(x11|wayland|mir)$/m.test(session) && !/^CLASS=greeter$/m.test(session);
  return texts.some(isUser) || (sessions.length === 0 && (await names('/tmp/.X11-unix')).length > 0);
}
