import { expect, onTestFinished, test } from 'vitest';
import { sleep } from '../../common/time/deadline.ts';
import { BackgroundWork } from '../../coordinator/evaluation/background-work.ts';
import { ScorerEvaluation } from '../../coordinator/evaluation/scorer-evaluation.ts';
import { TaskEvaluator } from '../../coordinator/evaluation/task-evaluator.ts';
import { silentLogger } from '../../monitor/logs/log.ts';
import { nodeError } from '../../node/errors.ts';
import type { QuestionAnswerer } from '../../node/evaluation/answerer.ts';
import type { ScoreTrainer } from '../../node/trainer/trainer.ts';
import type { Role } from '../../protocol/requests/member-status.ts';
import { virtualEnvironment } from '../utils/virtual/environment.ts';
import { gradientOn, lossOn } from '../utils/virtual/fake-trainer.ts';
import { noFolders } from '../utils/virtual/no-folders.ts';
import { SEQUENCE_LENGTH, toyJob } from '../utils/virtual/toy-job.ts';
import type { VirtualClock } from '../utils/virtual/virtual-clock.ts';
import { VirtualNode } from '../utils/virtual/virtual-node.ts';
import { COORDINATOR, VirtualCoordinator } from './virtual-coordinator.ts';

const FIGURE = 'words.acc,none';
const ROUNDS = 4;
const QUESTIONS = Buffer.from('the questions of /words.yaml');
const ANSWER_MS = 20_000;

const scoreTrainer: ScoreTrainer = {
  lossGradient: async (adapter, rows) => gradientOn(adapter, rows),
  losses: async (adapter, rows) =>
    rows.map((row) => ({ lossSum: SEQUENCE_LENGTH * lossOn(adapter, [row]), tokens: SEQUENCE_LENGTH })),
};

type Answer = (deps: { clock: VirtualClock; node: VirtualNode }) => QuestionAnswerer['answer'];

/** Answers after some time. The answers name the adapter, so that a test can compare them. */
const honest: Answer =
  ({ clock }) =>
  async ({ adapter, questions }, { signal }) => {
    expect(Buffer.from(questions)).toEqual(QUESTIONS);
    await sleep(clock, ANSWER_MS, signal);
    return Buffer.from(`answers of ${adapter}`);
  };

/** Runs a job with tasks whose checkpoints a node offers to evaluate. */
async function runJob({ answer, role = 'operator' }: { answer: Answer; role?: Role }) {
  const environment = virtualEnvironment();
  const { clock } = environment;
  const rounds = { count: ROUNDS, minPeers: 1, quorum: 1, maxSeconds: 120, localSteps: 40 } as const;
  const toy = toyJob(COORDINATOR, { rows: 2048, rounds });
  const options = { toy, retention: { checkpoints: 0, rounds: 8 }, audits: false };
  const coordinator = new VirtualCoordinator(options, environment);
  coordinator.start();
  await clock.run(() => coordinator.phase === 'waiting', 10_000);
  const { store } = coordinator;
  const metric = { figure: FIGURE, higherIsBetter: true };
  store.tasks.set(toy.job, { files: ['/words.yaml'], every: 1, metric, limit: null });
  const own: number[] = [];
  const deps = {
    coordinator: coordinator.coordinator,
    store,
    folders: noFolders,
    clock: clock.process(() => true),
    log: silentLogger,
    baseFolder: async () => 'base',
  };
  const roundOf = (adapter: string): number => Number(adapter.split('/').at(-1));
  const scorers = new ScorerEvaluation({
    ...deps,
    questions: async () => QUESTIONS,
    check: async ({ adapter, answers, draws }) => {
      if (Buffer.from(answers).toString() === 'uncheckable') throw new Error('a pattern ran out of time');
      const wrong = Buffer.from(answers).toString().startsWith('wrong') ? 1 : 0;
      expect(draws.every((draw) => draw >= 0 && draw < 1)).toBe(true);
      return {
        figures: { [FIGURE]: roundOf(adapter) },
        check: { documents: draws.length, difference: wrong, otherChoices: 0 },
      };
    },
  });
  const evaluator = new TaskEvaluator(
    { cacheDir: 'cache', compute: {} },
    {
      ...deps,
      scorers,
      evaluate: async ({ adapter }) => {
        own.push(roundOf(adapter));
        return { [FIGURE]: roundOf(adapter) };
      },
    },
  );
  const machine = (number: number, more: object): VirtualNode =>
    new VirtualNode(
      {
        ...{ number, coordinator: COORDINATOR.peerId, layout: toy.layout, msPerStep: 1000 },
        options: { job: toy.job },
        ...more,
      },
      environment,
    );
  const scorer = machine(2, {
    scoreTrainer,
    answerer: { answer: (...call) => answer({ clock, node: scorer })(...call) } satisfies QuestionAnswerer,
    options: { job: toy.job, invite: coordinator.invite(role) },
  });
  scorer.start();
  await clock.run(() => scorer.swarmNode.view().context !== null, 60_000);
  await clock.run(() => false, 3_000);
  const work = new BackgroundWork({ sources: [evaluator], log: silentLogger });
  coordinator.coordinator.onEvent((event) => work.observe(event));
  onTestFinished(() => work.stop());
  work.start();
  machine(1, {}).start();
  const isDone = (): boolean => coordinator.finished && store.tasks.unevaluated(toy.job).length === 0;
  expect(await clock.run(isDone, 60 * 60_000)).toBe(true);
  const events = store.events.after(toy.job, 0, 100_000);
  return {
    own,
    /** The rounds of all checkpoints. */
    all: store.rounds.checkpointRounds(toy.job),
    scorer: scorer.peer,
    evaluated: events.flatMap((event) => (event.type === 'tasks-evaluated' ? [event] : [])),
    failed: events.flatMap((event) =>
      event.type === 'scorer-failed' && event.work === 'tasks' ? [event] : [],
    ),
  };
}

test('a node of the operator evaluates checkpoints while the job runs', async () => {
  const { own, all, scorer, evaluated, failed } = await runJob({ answer: honest });
  expect(evaluated.map(({ round, value }) => [round, value])).toEqual(all.map((round) => [round, round]));
  expect(evaluated.map((event) => event.scorer)).toEqual(all.map(() => scorer));
  expect(own).toEqual([]);
  expect(failed).toEqual([]);
});

test('the coordinator evaluates if the node dies during an evaluation', async () => {
  const { own, all, scorer, evaluated, failed } = await runJob({
    answer: ({ node }) => {
      node.crash();
      return () => new Promise(() => {});
    },
  });
  expect(own).toEqual(all);
  expect(evaluated.every((event) => event.scorer === undefined)).toBe(true);
  expect(failed).toMatchObject([{ round: 0, peer: scorer, isWrong: false }]);
});

test('the coordinator evaluates if the node fails, and asks it again only after 8 rounds', async () => {
  const { own, all, failed } = await runJob({
    answer: () => async () => {
      throw nodeError('EVALUATION_ENDED', 'the device is lost');
    },
  });
  expect(own).toEqual(all);
  expect(failed).toMatchObject([{ round: 0, isWrong: false }]);
  expect(failed[0]!.reason).toContain('the device is lost');
});

test('wrong answers are found, and the node is not asked again', async () => {
  const { own, all, failed } = await runJob({ answer: () => async () => Buffer.from('wrong answers') });
  expect(own).toEqual(all);
  expect(failed).toMatchObject([{ round: 0, isWrong: true }]);
  expect(failed[0]!.reason).toContain('100.0 %');
});

test('a node whose answers cannot be checked is asked again only after 8 rounds', async () => {
  let asked = 0;
  const { own, all, failed } = await runJob({
    answer: () => async () => {
      asked++;
      return Buffer.from('uncheckable');
    },
  });
  expect(own).toEqual(all);
  expect(asked).toBe(1);
  expect(failed).toEqual([]);
});

test('a node that is no operator evaluates nothing', async () => {
  const { own, all, failed } = await runJob({ answer: honest, role: 'observer' });
  expect(own).toEqual(all);
  expect(failed).toEqual([]);
});
