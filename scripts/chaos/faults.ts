import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { cp, open, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../common/errors.ts';
import type { failpoints } from '../../coordinator/failpoints.ts';
import type { SeededRandom } from '../../test/utils/virtual/seeded-random.ts';
import { damageFile } from './damage.ts';
import type { Fault, FaultContext } from './fault.ts';
import { type Machine, PATIENCE_MS, wipe } from './swarm.ts';

/**
 * Maximum wait for the coordinator to reach the failpoint that kills it. After this time, the coordinator is killed
 * wherever it is, because some rounds do not reach every failpoint.
 */
const FAILPOINT_MS = 30_000;
/** Maximum random delay of a fault, so that faults fall into all phases of a round. */
const DELAY_MS = 2500;
/**
 * Size of the disks that `mountDisks` mounts, in MiB. It exceeds 128 MiB, the free space that a coordinator needs
 * before it continues its jobs after a full disk.
 */
const DISK_MIB = 256;
const BALLAST = 'ballast';
const LOOPBACK = 'lo';

const delay = (random: SeededRandom): Promise<void> => sleep(random.between(0, DELAY_MS));

/** Kills a fraction of the nodes, each after a random delay. The nodes start again after the round. */
export const killNodes =
  (share: number): Fault =>
  async ({ swarm, random }) => {
    const running = swarm.nodes.filter(({ isRunning }) => isRunning);
    const victims = shuffled(running, random).slice(0, Math.ceil(share * swarm.nodes.length));
    await Promise.all(
      victims.map(async (victim) => {
        await delay(random);
        await victim.kill();
      }),
    );
    return `killed ${victims.length} nodes`;
  };

/** Kills the coordinator at one of its failpoints, or at any moment, and starts it again. */
export const killCoordinator =
  (point: (typeof failpoints)[number] | 'any'): Fault =>
  async ({ swarm, random, problem }) => {
    const { coordinator } = swarm;
    let died = point;
    if (point === 'any') await delay(random);
    else {
      await coordinator.kill();
      const armed = coordinator.start({ SWARM_FAILPOINT: point });
      const ending = await Promise.race([armed.exited, sleep(FAILPOINT_MS, null)]);
      if (ending === null) died = 'any';
      else if (ending.signal !== 'SIGKILL') problem(`coordinator at ${point}: ${armed.problem()}`);
    }
    await coordinator.kill();
    if (!(await coordinator.start().ready)) problem(`coordinator: ${coordinator.daemon!.stderr.slice(-500)}`);
    return `killed coordinator (${died})`;
  };

/**
 * For `ms` milliseconds, drops all bytes between coordinator and nodes, or only the bytes of every second connection.
 * The connections stay open during this time.
 */
export const partition =
  (kind: 'cut' | 'half', ms: number): Fault =>
  async ({ swarm, random }) => {
    await delay(random);
    swarm.link.set({ kind });
    await sleep(ms);
    swarm.link.set({ kind: 'open' });
    return `${kind === 'cut' ? 'partition' : 'half a partition'} of ${ms / 1000} s`;
  };

/** Limits the bandwidth of the coordinator for `ms` milliseconds. */
export const slowLink =
  (bytesPerSecond: number, ms: number): Fault =>
  async ({ swarm }) => {
    swarm.link.set({ kind: 'slow', bytesPerSecond });
    await sleep(ms);
    swarm.link.set({ kind: 'open' });
    return `${bytesPerSecond / 1024} KiB/s for ${ms / 1000} s`;
  };

/**
 * Limits the bandwidth of all connections of this machine with a token bucket of Linux, which drops packets when its queue is
 * full. Does this only in a network namespace without other interfaces.
 * @param rate bandwidth as `tc` writes it
 */
export const shapeLink =
  (rate: string, ms: number): Fault =>
  async () => {
    if (!Object.keys(networkInterfaces()).every((name) => name === LOOPBACK))
      return 'skipped: not in a network namespace of its own';
    // Limit the size of packets, because the bucket drops a packet that is larger than itself.
    execFileSync('ip', ['link', 'set', LOOPBACK, 'mtu', '1500']);
    const bucket = ['tbf', 'rate', rate, 'burst', '32kb', 'latency', '400ms'];
    execFileSync('tc', ['qdisc', 'replace', 'dev', LOOPBACK, 'root', ...bucket]);
    await sleep(ms);
    execFileSync('tc', ['qdisc', 'del', 'dev', LOOPBACK, 'root']);
    return `tbf of ${rate} for ${ms / 1000} s`;
  };

/** Stops processes without ending them, as if their machine slept. */
export const stopProcesses =
  (who: 'coordinator' | 'nodes', ms: number): Fault =>
  async ({ swarm, random }) => {
    await delay(random);
    const machines = who === 'coordinator' ? [swarm.coordinator] : shuffled(swarm.nodes, random).slice(0, 3);
    const running = machines.filter(({ isRunning }) => isRunning);
    await Promise.all(running.map(({ daemon }) => daemon!.send('SIGSTOP')));
    await sleep(ms);
    await Promise.all(running.map(({ daemon }) => daemon!.send('SIGCONT')));
    return `stopped ${who} for ${ms / 1000} s`;
  };

/** Sets the clock of a machine forward or back for `ms` milliseconds. */
export const jumpClock =
  (who: 'coordinator' | 'node', offsetMs: number, ms: number): Fault =>
  async ({ swarm, random }) => {
    const machine = who === 'coordinator' ? swarm.coordinator : random.pick(swarm.nodes);
    await writeFile(machine.clockFile, String(offsetMs));
    await sleep(ms);
    await writeFile(machine.clockFile, '0');
    return `clock of ${machine.name} ${offsetMs / 1000} s wrong for ${ms / 1000} s`;
  };

/** Fills the small disk of a machine, and empties it again. */
export const fillDisk =
  (who: 'coordinator' | 'node', ms: number): Fault =>
  async ({ swarm }) => {
    const machine = who === 'coordinator' ? swarm.coordinator : swarm.nodes[0]!;
    const ballast = join(machine.home, BALLAST);
    const file = await open(ballast, 'w');
    try {
      for (let left = DISK_MIB * 64; left > 0; left--) await file.write(Buffer.alloc(16_384));
      return `skipped: the home of ${machine.name} is not on a small disk`;
    } catch {
      // The disk is full, as intended.
      await sleep(ms);
    } finally {
      await file.close();
      await unlink(ballast);
    }
    return `disk of ${machine.name} full for ${ms / 1000} s`;
  };

/** Mounts a small disk at each home that `fillDisk` fills. @returns the reason of a failure; null after a success */
export function mountDisks(homes: readonly string[]): string | null {
  try {
    for (const home of homes) {
      mkdirSync(home, { recursive: true, mode: 0o700 });
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MIB}m,mode=700`, 'tmpfs', home], {
        stdio: 'pipe',
      });
    }
    return null;
  } catch (error) {
    return messageOf(error).trim();
  }
}

/** Unmounts the small disks. Their files stay in folders with the same paths. */
export async function unmountDisks(homes: readonly string[]): Promise<void> {
  for (const home of homes) {
    await cp(home, `${home}.copy`, { recursive: true });
    execFileSync('umount', [home]);
    await cp(`${home}.copy`, home, { recursive: true });
    await rm(`${home}.copy`, { recursive: true });
  }
}

/** Damages one file in the home of a node. If the node then refuses to start, empties its home. */
export const damageNode: Fault = async (context) => {
  const node = context.random.pick(context.swarm.nodes.slice(1));
  await node.kill();
  const what = await damageFile(node.home, context.random);
  return `${node.name}: ${what}, ${await restarted(node, context)}`;
};

/** Restores an old copy of the home of a node. The first call for a node only makes the copy. */
export const restoreNode: Fault = async (context) => {
  const node = context.random.pick(context.swarm.nodes.slice(1, 4));
  await node.kill();
  const backup = `${node.home}.backup`;
  if (!(await exists(backup))) {
    await cp(node.home, backup, { recursive: true });
    return `backup of ${node.name}`;
  }
  await rm(node.home, { recursive: true });
  await cp(backup, node.home, { recursive: true });
  return `old backup of ${node.name}, ${await restarted(node, context)}`;
};

/**
 * Damages one file in the home of the coordinator. If the coordinator then does not start or makes no checkpoint, restores
 * a copy of the home from before the damage, as an operator would.
 */
export const damageCoordinator: Fault = async ({ swarm, random, problem }) => {
  const { coordinator } = swarm;
  await coordinator.kill();
  const copy = `${coordinator.home}.copy`;
  await cp(coordinator.home, copy, { recursive: true });
  const what = await damageFile(coordinator.home, random);
  const daemon = coordinator.start();
  const ready = await Promise.race([daemon.ready, sleep(PATIENCE_MS, null)]);
  let outcome = 'runs';
  if (ready === null) problem(`coordinator: not ready ${PATIENCE_MS / 1000} s after ${what}`);
  else if (!ready) outcome = `refuses with ${daemon.ending?.code ?? 'nothing'}`;
  else if (!(await swarm.progresses())) {
    problem(`coordinator: no checkpoint after ${what} (${await swarm.reason()})`);
    outcome = 'stands still';
  }
  if (daemon.problem() !== null) problem(`coordinator after ${what}: ${daemon.problem()}`);
  if (outcome !== 'runs' || !ready) {
    outcome += ', copy restored';
    await coordinator.kill();
    await wipe(coordinator);
    await cp(copy, coordinator.home, { recursive: true });
    swarm.replayEvents();
    await coordinator.start().ready;
  }
  await rm(copy, { recursive: true });
  return `coordinator: ${what}, ${outcome}`;
};

/** The first call copies the home of the coordinator. The second call restores and deletes this copy, and so on in turn. */
export const restoreCoordinator: Fault = async ({ swarm, problem }) => {
  const { coordinator } = swarm;
  const backup = `${coordinator.home}.backup`;
  await coordinator.kill();
  const isFirst = !(await exists(backup));
  if (isFirst) await cp(coordinator.home, backup, { recursive: true });
  else {
    await wipe(coordinator);
    await cp(backup, coordinator.home, { recursive: true });
    await rm(backup, { recursive: true });
    swarm.replayEvents();
  }
  if (!(await coordinator.start().ready)) problem(`coordinator: ${coordinator.daemon!.problem()}`);
  return `${isFirst ? 'backup' : 'old backup'} of the coordinator`;
};

/** Like `restoreCoordinator`, but the node that connects first lacks a checkpoint. The others connect up to 20 s later. */
export const restoreWithGap: Fault = async (context) => {
  const { swarm, random } = context;
  if (!(await exists(`${swarm.coordinator.home}.backup`))) return restoreCoordinator(context);
  await swarm.coordinator.kill();
  await Promise.all(swarm.nodes.map((node) => node.kill()));
  const first = random.pick(swarm.nodes);
  const db = new DatabaseSync(join(first.home, 'node.sqlite'));
  db.exec(`DELETE FROM kept_checkpoints WHERE round =
    (SELECT round FROM kept_checkpoints ORDER BY round DESC LIMIT 1 OFFSET 1)`);
  db.close();
  const done = await restoreCoordinator(context);
  await swarm.startNodes([first]);
  const ms = random.integer(0, 20_000);
  await sleep(ms);
  return `${done}; ${first.name} lacks a checkpoint; alone for ${ms / 1000} s`;
};

/**
 * Starts a node whose home was changed. If the node refuses to start, empties its home.
 * @returns what happened, as text
 */
async function restarted(node: Machine, { changedHomes, problem }: FaultContext): Promise<string> {
  changedHomes.add(node.name);
  const daemon = node.start();
  await Promise.race([daemon.ready, sleep(PATIENCE_MS)]);
  if (daemon.ending === null) return 'runs';
  if (daemon.problem() !== null) problem(`${node.name}: ${daemon.problem()}`);
  await wipe(node);
  return `refuses with ${daemon.ending.code}, home deleted`;
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch {
    // stat fails for a path that does not exist.
    return false;
  }
}

function shuffled<T>(items: readonly T[], random: SeededRandom): T[] {
  const copy = [...items];
  for (let i = copy.length - 1; i > 0; i--) {
    const j = random.integer(0, i);
    [copy[i], copy[j]] = [copy[j]!, copy[i]!];
  }
  return copy;
}
