import { chmod, cp, readFile, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { nullIfMissing } from '../../common/files/file-system.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { readDaemonFile } from '../../storage/daemon-home.ts';
import { UNPRIVILEGED } from './daemon.ts';
import { DAMAGES, type Damage, damagePath, filesOf, PARTIAL_BLOB, PARTIAL_MAP } from './damage.ts';
import type { Fault, FaultContext, WalkResults } from './fault.ts';
import { interruptFetch } from './interrupted-fetch.ts';
import { type Machine, PATIENCE_MS, wipe } from './swarm.ts';

/** A kind of file, a kind of damage, and the file of this kind that is damaged. */
interface Cell {
  readonly kind: string;
  readonly damage: Damage;
  readonly path: string;
}

/** The kinds of the files of an interrupted fetch, without a file. */
const FETCHED: [string, string[]][] = [
  [PARTIAL_BLOB, []],
  [PARTIAL_MAP, []],
];

/** Description that a walk returns when every kind of file has been damaged in every way. */
export const WALKED = 'the walk is complete';

/**
 * Damages the newest file of one kind in one way in the home of the coordinator. Each call takes the next pair of file
 * kind and damage. If the coordinator then does not start or makes no checkpoint, restores a copy of the home from before
 * the damage, as an operator would.
 */
export const walkCoordinator: Fault = async (context) => {
  const { swarm, walked, problem } = context;
  const { coordinator } = swarm;
  await coordinator.kill();
  const cell = await nextCell(coordinator, context);
  if (cell === null) {
    await coordinator.start().ready;
    return WALKED;
  }
  const copy = `${coordinator.home}.copy`;
  await cp(coordinator.home, copy, { recursive: true });
  const description = `${cell.damage} ${cell.kind}`;
  if (!(await damaged(coordinator, cell, context))) {
    note(walked, cell, 'no other content');
    await coordinator.start().ready;
    return `${description}: no other content`;
  }
  const from = swarm.events.length;
  const daemon = coordinator.start();
  const ready = await Promise.race([daemon.ready, sleep(PATIENCE_MS, null)]);
  let outcome = 'runs';
  if (ready === null) {
    outcome = 'is not ready';
    problem(`coordinator: not ready ${PATIENCE_MS / 1000} s after ${description}`);
  } else if (!ready) outcome = daemon.ending?.code ?? 'no code';
  else if (!(await swarm.progresses())) {
    outcome = 'stands still';
    problem(`coordinator: no checkpoint after ${description} (${await swarm.reason()})`);
  }
  if (daemon.problem() !== null) problem(`coordinator after ${description}: ${daemon.problem()}`);
  if (outcome === 'runs') {
    if (swarm.events.slice(from).some(({ type }) => type === 'caught-up')) outcome += ', caught up';
    outcome += await stateOf(cell.path);
    await readableAgain(cell.path);
  } else {
    await coordinator.kill();
    await wipe(coordinator);
    await cp(copy, coordinator.home, { recursive: true });
    swarm.replayEvents();
    await coordinator.start().ready;
    if (outcome === 'stands still') await resumed(swarm);
  }
  await rm(copy, { recursive: true });
  note(walked, cell, outcome);
  return `${description}: ${outcome}`;
};

/**
 * Damages a file of each node except the first. Each of these nodes takes the next pair of file kind and damage. If a node
 * then does not start, or the coordinator accepts none of its updates, empties its home.
 */
export const walkNodes: Fault = async (context) => {
  const nodes = context.swarm.nodes.slice(1);
  await Promise.all(nodes.map((node) => node.kill()));
  const taken: { node: Machine; cell: Cell }[] = [];
  for (const node of nodes) {
    const cell = await nextCell(node, context);
    if (cell === null) continue;
    // Reserve the cell, so that the next node takes another one.
    note(context.walked, cell, '');
    taken.push({ node, cell });
  }
  const outcomes = await Promise.all(taken.map(({ node, cell }) => walkNode(node, cell, context)));
  await context.swarm.startNodes(nodes);
  return outcomes.length === 0 ? WALKED : outcomes.join('; ');
};

async function walkNode(node: Machine, cell: Cell, context: FaultContext): Promise<string> {
  const { swarm, walked, changedHomes, problem } = context;
  const description = `${cell.damage} ${cell.kind}`;
  if (!(await damaged(node, cell, context))) {
    note(walked, cell, 'no other content');
    return `${description}: no other content`;
  }
  changedHomes.add(node.name);
  const from = swarm.events.length;
  const daemon = node.start();
  await Promise.race([daemon.ready, sleep(PATIENCE_MS)]);
  let outcome = 'runs';
  if (daemon.ending !== null) {
    outcome = daemon.ending.code ?? 'no code';
    if (daemon.problem() !== null) problem(`${node.name} after ${description}: ${daemon.problem()}`);
    await wipe(node);
  } else if (!(await delivers(node, from, swarm))) {
    outcome = 'delivers nothing';
    problem(`${node.name}: no accepted update after ${description}`);
    await node.kill();
    await wipe(node);
  } else {
    outcome += await stateOf(cell.path);
    await readableAgain(cell.path);
  }
  note(walked, cell, outcome);
  return `${description}: ${outcome}`;
}

/** Returns whether the coordinator accepts an update of a node within PATIENCE_MS. */
async function delivers(node: Machine, from: number, swarm: FaultContext['swarm']): Promise<boolean> {
  const peer = (await readDaemonFile(node.home, 'node'))?.peerId;
  return swarm.until(
    () =>
      swarm.events
        .slice(from)
        .some((event) => event.type === 'update' && event.peer === peer && event.code === 'accepted'),
    PATIENCE_MS,
  );
}

/** Resumes a job that has paused itself. A restored coordinator learns of this pause from the nodes. */
async function resumed(swarm: FaultContext['swarm']): Promise<void> {
  if (await swarm.progresses()) return;
  const api = await swarm.api({ limitMs: PATIENCE_MS });
  if ((await api.job(swarm.job)).phase === 'paused') await api.act(swarm.job, 'resume', '');
}

/**
 * Returns the next file to damage, and the kind of damage; null if none is left. The files of an interrupted fetch are made
 * if the home has none. Before that, the first call for a machine copies its home for the damage `older`.
 */
async function nextCell(machine: Machine, { swarm, walked, only }: FaultContext): Promise<Cell | null> {
  if (!(await exists(olderCopy(machine)))) await cp(machine.home, olderCopy(machine), { recursive: true });
  const found = await filesOf(machine.home);
  const shard = found.get('blob: data')?.[0];
  const files = new Map([...(shard === undefined ? [] : FETCHED), ...found]);
  for (const [kind, [path]] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
    for (const damage of DAMAGES) {
      const name = `${damage} ${kind}`;
      if (walked.get(kind)?.has(damage) || !only.some((text) => name.includes(text))) continue;
      // Without the command UNPRIVILEGED, a daemon of root can open every file, so this damage has no effect.
      if (damage === 'unreadable' && UNPRIVILEGED === null) continue;
      if (path !== undefined) return { kind, damage, path };
      // A node keeps the bytes from each coordinator apart.
      const sender =
        machine === swarm.coordinator ? null : await readDaemonFile(swarm.coordinator.home, 'coordinator');
      const { partial, map } = await interruptFetch(shard!, sender?.peerId ?? null);
      return { kind, damage, path: kind === PARTIAL_MAP ? map : partial };
    }
  }
  return null;
}

/** Damages the file of a cell. @returns false if the kind has no other content for the damage `older` */
async function damaged(machine: Machine, { kind, damage, path }: Cell, { random }: FaultContext) {
  const others = (await filesOf(machine.home)).get(kind)!.slice(1);
  const older = { home: machine.home, copy: olderCopy(machine), others };
  return damagePath(path, damage, { random, older });
}

const olderCopy = ({ home }: Machine): string => `${home}.older`;

function note(walked: WalkResults, { kind, damage }: Cell, outcome: string): void {
  walked.set(kind, (walked.get(kind) ?? new Map<Damage, string>()).set(damage, outcome));
}

/**
 * Says what became of a damaged blob or partial blob. Returns an empty text for other files, which have no digest to compare
 * with.
 */
async function stateOf(path: string): Promise<string> {
  if (basename(dirname(path)) === 'partial') {
    const [digest] = basename(path).split('.');
    const whole = join(dirname(path), '..', digest!.slice(0, 2), digest!);
    return (await exists(whole)) ? ', repaired' : ', not needed yet';
  }
  if (!/^[0-9a-f]{64}$/.test(basename(path))) return '';
  if (!(await exists(path))) return ', deleted';
  const isReadable = ((await stat(path)).mode & 0o400) !== 0;
  return isReadable && sha256(await readFile(path)) === basename(path) ? ', repaired' : ', not needed yet';
}

/** Undoes the damage `unreadable`, as an operator would. */
async function readableAgain(path: string): Promise<void> {
  if (await exists(path)) await chmod(path, 0o600);
}

/** Returns the results as a table in Markdown. */
export function walkTable(walked: WalkResults): string[] {
  const rows = [...walked].map(([kind, outcomes]) => [
    kind,
    ...DAMAGES.map((one) => outcomes.get(one) ?? '-'),
  ]);
  const head = ['file', ...DAMAGES];
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`);
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(nullIfMissing)) !== null;
}
