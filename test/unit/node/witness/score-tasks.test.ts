import { beforeAll, expect, test } from 'vitest';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { nodeError } from '../../../../node/errors.ts';
import { ScoreTasks, type ScoreTasksDeps } from '../../../../node/witness/score-tasks.ts';
import { memoryObstacle } from '../../../../node/witness/score-trainer.ts';
import { MEASURED_ROWS } from '../../../../protocol/limits.ts';
import type { Figures } from '../../../../protocol/messages.ts';
import { verifyMessage } from '../../../../protocol/signing.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';
import { playedJob } from '../../verify/forged-job.ts';

let job: Omit<Parameters<ScoreTasks['prepare']>[0], 'figures'>;
let figures: Figures;
const { signal } = new AbortController();

beforeAll(async () => {
  const { kept } = await playedJob();
  const { digest, message: manifest } = verifyMessage('manifest', kept.manifest);
  job = { job: digest, manifest, verificationBytes: 7 };
  ({ message: figures } = verifyMessage('figures', kept.records.at(-1)!.figures!));
});

function tasksOf(changes: Partial<ScoreTasksDeps> = {}) {
  const clock = new ManualClock();
  const warnings: string[] = [];
  const read: number[] = [];
  const deps = {
    readRows: async (_job, { positions }) => {
      read.push(positions.length);
      return [];
    },
    trainerFor: async () => ({ modelDir: 'base' }) as never,
    randomInt: () => 0,
    clock,
    log: {
      ...silentLogger,
      warn: ({ reason }: { reason: string }) => void warnings.push(reason),
    } as never,
    ...changes,
  } satisfies ScoreTasksDeps;
  return { tasks: new ScoreTasks(deps), clock, warnings, read };
}

test('the rows of the random batches and of two updates are read, however many updates there are', async () => {
  const many = Array.from({ length: 100 }, (_, i) => ({ ...figures.updates[0]!, round: figures.round + i }));
  for (const updates of [figures.updates, many]) {
    const { tasks, read } = tasksOf();
    const task = await tasks.prepare({ ...job, figures: { ...figures, updates } }, signal);
    expect(task!.chosen).toHaveLength(2);
    expect(read).toHaveLength(3);
    for (const count of read) expect(count).toBeLessThanOrEqual(MEASURED_ROWS);
  }
});

test('measurements take a share of the time, and which merges are measured is random', async () => {
  const { tasks, clock } = tasksOf({ randomInt: (below) => below / 2 });
  const isMeasured = async () => (await tasks.prepare({ ...job, figures }, signal)) !== null;
  expect(await isMeasured()).toBe(true);
  tasks.note(1000);
  // The probability of a measurement is 5 % of the time since the last decision, divided by the time that a measurement
  // takes.
  clock.advance(9_000);
  expect(await isMeasured()).toBe(false);
  clock.advance(11_000);
  expect(await isMeasured()).toBe(true);
});

test('a machine without memory measures nothing, and the log says so once', async () => {
  const { tasks, warnings, read } = tasksOf({ trainerFor: async () => ({ obstacle: 'no memory' }) });
  for (let i = 0; i < 3; i++) expect(await tasks.prepare({ ...job, figures }, signal)).toBeNull();
  expect(warnings).toEqual(['no memory']);
  expect(read).toEqual([]);
});

test('rows that cannot be fetched, and figures that cannot be measured, do not stop the verification', async () => {
  const failing = tasksOf({
    readRows: async () => {
      throw nodeError('NO_OPEN_JOB', 'the node has left the job');
    },
  });
  expect(await failing.tasks.prepare({ ...job, figures }, signal)).toBeNull();
  expect(failing.warnings).toEqual(['the node has left the job']);
  const [first, ...others] = figures.updates;
  for (const changed of [
    { seed: null },
    { rules: 99 },
    { updates: [{ ...first!, end: first!.start }, ...others] },
    { updates: [{ ...first!, end: first!.start + 2 ** 40 }, ...others] },
  ]) {
    const { tasks, read } = tasksOf();
    expect(await tasks.prepare({ ...job, figures: { ...figures, ...changed } }, signal)).toBeNull();
    expect(read).toEqual([]);
  }
});

test('a measurement counts the memory of the verification, which runs at the same time', async () => {
  const asked: number[] = [];
  const { tasks } = tasksOf({
    trainerFor: async (_manifest, verificationBytes) => {
      asked.push(verificationBytes);
      return { obstacle: 'too little memory' };
    },
  });
  expect(await tasks.prepare({ ...job, figures }, signal)).toBeNull();
  expect(asked).toEqual([7]);
  const MIB = 2 ** 20;
  const memory = { wanted: 300 * MIB, loaded: 500 * MIB, limit: 2000 * MIB, free: 2000 * MIB };
  expect(memoryObstacle(memory)).toBeNull();
  expect(memoryObstacle({ ...memory, limit: 700 * MIB })).toContain('--max-memory');
  expect(memoryObstacle({ ...memory, free: 200 * MIB })).toMatch(/\b300 MiB\b.*\b200 MiB\b/);
});
