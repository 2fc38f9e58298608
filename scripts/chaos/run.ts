import { join } from 'node:path';
import { ApiClient } from '../../coordinator/client/api-client.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import type { NodeStatus } from '../../protocol/api/node.ts';
import { SeededRandom } from '../../test/utils/virtual/seeded-random.ts';
import type { FaultContext, WalkResults } from './fault.ts';
import { mountDisks, unmountDisks } from './faults.ts';
import { checkHistory, type History } from './history.ts';
import { schedules } from './schedules.ts';
import { ChaosSwarm, PATIENCE_MS, wipe } from './swarm.ts';
import { WALKED } from './walk.ts';

/** Maximum time in milliseconds in which the job must make progress after faults. */
const PROGRESS_MS = 150_000;
/** Number of checkpoints that the job makes after the last fault. */
const CALM_CHECKPOINTS = 3;
/** Maximum time in milliseconds until all nodes are back in a round after a restart. */
const REJOIN_MS = 45_000;

export interface ChaosOptions {
  readonly schedule: string;
  readonly seed: number;
  /** Number of rounds with faults. */
  readonly rounds: number;
  readonly nodes: number;
  readonly localSteps: number;
  /** Empty folder for all homes. */
  readonly folder: string;
  /** A walk takes only cells whose name, such as "flip node.sqlite", contains one of these texts. @default all */
  readonly only?: readonly string[];
  /** Minimum number of tokens that the job trains. */
  readonly tokens: number;
}

/** Facts about one round. The report shows them in one line. */
export interface RoundReport {
  readonly round: number;
  readonly faults: readonly string[];
  /** Type of the event that ended the round: `checkpoint`, `null-round` or `finished`; `none` if no round ended. */
  readonly ended: string;
  readonly updates: string;
  readonly loss: number | null;
  readonly seconds: number;
  readonly problems: readonly string[];
}

export interface ChaosResult extends History {
  readonly walked: WalkResults;
  readonly finished: boolean;
}

/**
 * Runs a swarm with the faults of a schedule until its job ends. Then checks the databases of the swarm.
 * @param report called after each round with faults
 */
export async function runChaos(
  options: ChaosOptions,
  report: (round: RoundReport) => void,
): Promise<ChaosResult> {
  const schedule = schedules[options.schedule];
  if (schedule === undefined) throw new Error(`no schedule "${options.schedule}"`);
  const random = new SeededRandom(options.seed);
  const small = ['coordinator', 'node-1'].map((name) => join(options.folder, name));
  const hasDisks = ['machines', 'mixed'].includes(options.schedule) && mountDisks(small) === null;
  const swarm = await ChaosSwarm.start(options);
  const all: string[] = [];
  const changedHomes = new Set<string>();
  const walked: WalkResults = new Map();
  try {
    for (let round = 1; round <= options.rounds && !swarm.finished; round++) {
      await swarm.until(() => isFullRound(swarm), REJOIN_MS);
      const problems: string[] = [];
      const problem = (text: string): void => void problems.push(text);
      const { only = [''] } = options;
      const context: FaultContext = { swarm, random, changedHomes, walked, only, problem };
      const done = await runRound(round, schedule(round, random), context, problems);
      report(done);
      all.push(...problems.map((text) => `round ${round}: ${text}`));
      if (problems.some((text) => text.startsWith(STANDSTILL)) || done.faults.includes(WALKED)) break;
    }
    if (!(await trained(swarm, options.tokens))) all.push(`${STANDSTILL}: no further checkpoint`);
    await swarm.answers();
    await (await swarm.api({ limitMs: PATIENCE_MS })).changeSettings(swarm.job, {
      'rounds.count': checkpointsOf(swarm).length + CALM_CHECKPOINTS,
    });
    const finished = await swarm.until(() => swarm.finished, 2 * PROGRESS_MS);
    if (!finished) all.push('the job did not end in time');
    // Gives the nodes time to settle their last updates.
    await swarm.until(async () => await settled(swarm), finished ? PATIENCE_MS / 3 : 0);
    await swarm.stop();
    const kept = swarm.nodes.filter(({ name }) => !changedHomes.has(name)).map(({ home }) => home);
    const history = checkHistory(swarm.coordinator.home, swarm.job, kept);
    return { ...history, finished, walked, problems: [...all, ...history.problems] };
  } finally {
    await swarm.stop();
    if (hasDisks) await unmountDisks(small);
  }
}

const STANDSTILL = 'standstill';

function checkpointsOf({ events }: ChaosSwarm): Extract<JobEvent, { type: 'checkpoint' }>[] {
  return events.filter((event) => event.type === 'checkpoint');
}

/** Waits until the merged updates of a job have this number of tokens. @returns false if the job makes no progress */
async function trained(swarm: ChaosSwarm, tokens: number): Promise<boolean> {
  for (;;) {
    const made = checkpointsOf(swarm);
    if (made.reduce((sum, checkpoint) => sum + checkpoint.tokens, 0) >= tokens) return true;
    if (!(await swarm.until(() => checkpointsOf(swarm).length > made.length, PROGRESS_MS))) return false;
  }
}

async function runRound(
  round: number,
  faults: readonly ((context: FaultContext) => Promise<string>)[],
  context: FaultContext,
  problems: string[],
): Promise<RoundReport> {
  const { swarm } = context;
  const start = performance.now();
  const from = swarm.events.length;
  const described: string[] = [];
  for (const fault of faults) described.push(await fault(context));
  if (!(await swarm.answers())) problems.push('the coordinator does not answer');
  for (const { name, daemon } of swarm.machines) {
    const problem = daemon?.problem() ?? null;
    if (problem !== null) problems.push(`${name} ${problem}`);
  }
  await revive(context);
  const ends = (): JobEvent | undefined =>
    swarm.events.slice(from).findLast(({ type }) => ['checkpoint', 'null-round', 'finished'].includes(type));
  if (!(await swarm.until(() => ends() !== undefined, PROGRESS_MS)))
    problems.push(`${STANDSTILL}: no round ended in ${PROGRESS_MS / 1000} s`);
  const end = ends();
  const closed = swarm.events.slice(from).findLast((event) => event.type === 'round-closed');
  const made = swarm.events.slice(from).findLast((event) => event.type === 'checkpoint');
  return {
    round,
    faults: described,
    ended: end?.type ?? 'none',
    updates: closed ? `${closed.updates}/${closed.assigned}` : '-',
    loss: made?.heldOutLoss ?? null,
    seconds: (performance.now() - start) / 1000,
    problems,
  };
}

/**
 * Starts the daemons that are down. If a node refuses to start from its home, empties the home and starts the
 * node again.
 */
async function revive({ swarm, changedHomes }: FaultContext): Promise<void> {
  if (!swarm.coordinator.isRunning) await swarm.coordinator.start().ready;
  await swarm.startNodes(swarm.nodes);
  for (const node of swarm.nodes.filter(({ isRunning }) => !isRunning)) {
    await wipe(node);
    changedHomes.add(node.name);
  }
  await swarm.startNodes(swarm.nodes);
}

/** Returns whether all nodes are in the newest round. Also returns true if the job has finished. */
function isFullRound({ events, options, finished }: ChaosSwarm): boolean {
  const opened = events.findLast(({ type }) => type === 'round-opened');
  return finished || (opened?.type === 'round-opened' && opened.peers >= options.nodes);
}

/** Returns whether all running nodes know that the job is over and what became of their updates. */
async function settled(swarm: ChaosSwarm): Promise<boolean> {
  const done = await Promise.all(
    swarm.nodes.filter(({ isRunning }) => isRunning).map(({ home }) => isDone(home)),
  );
  return done.every(Boolean);
}

async function isDone(home: string): Promise<boolean> {
  try {
    const api = await ApiClient.open(home, 'node', { signal: AbortSignal.timeout(5000) });
    return (await api.status<NodeStatus>()).done;
  } catch {
    // The node is starting or busy, so it does not answer. `until` asks again.
    return false;
  }
}
