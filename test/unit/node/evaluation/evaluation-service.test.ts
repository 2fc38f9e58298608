import { expect, onTestFinished, test } from 'vitest';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import type { QuestionAnswerer } from '../../../../node/evaluation/answerer.ts';
import { ABANDONED_MS, EvaluationService } from '../../../../node/evaluation/evaluation-service.ts';
import { defaultPolicy } from '../../../../node/limits/policy.ts';
import type { ReadyPort } from '../../../../node/phases/port.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { ANSWERS_BYTES } from '../../../../protocol/limits.ts';
import type { RpcRequest } from '../../../../protocol/requests/rpc.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { toyJob } from '../../../utils/virtual/toy-job.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';

const digestOf = (text: string): string => sha256(Buffer.from(text));
const request = (adapter: string): RpcRequest<'evaluate'> => ({
  job: digestOf('job'),
  adapter: { digest: digestOf(adapter), size: 7 },
  questions: { digest: digestOf('questions'), size: 9 },
  baseBits: 32,
});
const keyOf = ({ job, adapter, questions }: RpcRequest<'evaluate'>): RpcRequest<'evaluation'> => ({
  job,
  adapter: adapter.digest,
  questions: questions.digest,
});

type Answer = QuestionAnswerer['answer'];
const answering: Answer = async ({ adapter }) => Buffer.from(`answers of ${adapter}`);
/** Gives no answer. It ends when the evaluation is aborted. */
const hanging: Answer = (_questions, { signal }) =>
  new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
  });

function setUp(answer: Answer | null = answering, policy = defaultPolicy) {
  const clock = new VirtualClock(1_000_000);
  const state = { isBusy: false };
  const asked: string[] = [];
  const files = new Map([[digestOf('questions'), Buffer.from('questions')]]);
  const held = new Set<string>();
  const contextOf = (coordinator: string): ReadyPort =>
    ({
      coordinator,
      job: digestOf('job'),
      manifest: toyJob(signerOf(200)).manifest,
      options: { policy },
      deps: {
        siblings: () => [],
        blobs: { has: async () => true, get: async (digest: string) => files.get(digest) },
        fetchTurns: {
          run: (_key: object, signal: AbortSignal, work: (turn: AbortSignal) => unknown) => work(signal),
        },
        store: { origins: { has: () => true } },
        log: silentLogger,
      },
      collector: {
        withScope: async (work: (scope: object) => Promise<unknown>) => {
          const scope = {
            hold: async (digest: string) => held.add(digest),
            put: async (bytes: Uint8Array) => {
              held.add(sha256(bytes));
              return sha256(bytes);
            },
          };
          try {
            return await work(scope);
          } finally {
            held.clear();
          }
        },
      },
    }) as unknown as ReadyPort;
  const service = new EvaluationService({
    answerer: answer && {
      answer: (questions, options) => {
        asked.push(questions.adapter);
        return answer(questions, options);
      },
    },
    clock,
    log: silentLogger,
    isBusy: () => state.isBusy,
  });
  onTestFinished(() => service.stop());
  const settled = (): Promise<boolean> => clock.run(() => false, 0);
  return { service, clock, state, asked, held, contextOf, settled };
}

test('the answers are a blob, which only the coordinator may fetch', async () => {
  const { service, contextOf, held, settled } = setUp();
  const one = request('one');
  service.start(contextOf('boss'), one);
  expect(service.state('boss', keyOf(one))).toEqual({ state: 'running', done: 0 });
  await settled();
  const answers = Buffer.from(`answers of ${one.adapter.digest}`);
  const digest = sha256(answers);
  const done = { state: 'done', answers: { digest, size: answers.length } };
  expect(service.state('boss', keyOf(one))).toEqual(done);
  expect(held).toEqual(new Set([one.questions.digest, one.adapter.digest, digest]));
  expect(service.mayFetch('boss', digest)).toBe(true);
  expect(service.mayFetch('boss', one.adapter.digest)).toBe(false);
  expect(service.mayFetch('other', digest)).toBe(false);
  expect(() => service.state('other', keyOf(one))).toThrow(withCode('NOT_EVALUATING'));
  expect(() => service.state('boss', keyOf(request('two')))).toThrow(withCode('NOT_EVALUATING'));
});

test('a repeated request begins nothing new, and another request of the coordinator replaces the evaluation', async () => {
  const { service, asked, contextOf, settled } = setUp(hanging);
  const [one, two] = [request('one'), request('two')];
  service.start(contextOf('boss'), one);
  await settled();
  service.start(contextOf('boss'), one);
  service.start(contextOf('boss'), two);
  await settled();
  expect(asked).toEqual([one.adapter.digest, two.adapter.digest]);
  expect(service.state('boss', keyOf(two))).toMatchObject({ state: 'running' });
  expect(() => service.start(contextOf('other'), one)).toThrow(withCode('EVALUATION_BUSY'));
});

test('a node that trains begins no evaluation, and ends one when it begins to train', async () => {
  const { service, state, contextOf, settled } = setUp(hanging);
  const one = request('one');
  state.isBusy = true;
  expect(() => service.start(contextOf('boss'), one)).toThrow(withCode('EVALUATION_BUSY'));
  state.isBusy = false;
  service.start(contextOf('boss'), one);
  await settled();
  service.yieldToWork();
  expect(service.state('boss', keyOf(one))).toMatchObject({ state: 'running' });
  state.isBusy = true;
  service.yieldToWork();
  await settled();
  expect(service.state('boss', keyOf(one))).toMatchObject({ state: 'failed' });
  state.isBusy = false;
  service.start(contextOf('boss'), one);
  expect(service.state('boss', keyOf(one))).toMatchObject({ state: 'running' });
});

test('an evaluation ends when the coordinator no longer asks for it, and its answers are deleted', async () => {
  const { service, clock, contextOf, held } = setUp();
  const one = request('one');
  service.start(contextOf('boss'), one);
  for (let asked = 0; asked < 3; asked++) {
    await clock.run(() => false, ABANDONED_MS - 1000);
    expect(service.state('boss', keyOf(one))).toMatchObject({ state: 'done' });
  }
  await clock.run(() => false, ABANDONED_MS + 1000);
  expect(() => service.state('boss', keyOf(one))).toThrow(withCode('NOT_EVALUATING'));
  expect(held.size).toBe(0);
});

test('a node refuses other base bits, and an evaluation for which its owner lends too little memory', () => {
  const { service, contextOf } = setUp();
  expect(() => service.start(contextOf('boss'), { ...request('one'), baseBits: 8 })).toThrow(
    withCode('EVALUATION_BASE_BITS'),
  );
  // The job of the test needs less than 10 MB for training, and a process of Node.js needs more than 100 MB.
  const small = setUp(answering, { ...defaultPolicy, maxMemoryBytes: 100e6 });
  expect(() => small.service.start(small.contextOf('boss'), request('one'))).toThrow(
    withCode('POLICY_MEMORY'),
  );
});

test('a node that does not offer to compute for the coordinator refuses', () => {
  const { service, contextOf } = setUp(null);
  expect(() => service.start(contextOf('boss'), request('one'))).toThrow(withCode('NOT_EVALUATING'));
});

test('a failure has a reason, and answers that are too large are not sent', async () => {
  const { service, contextOf, settled } = setUp(async () => new Uint8Array(ANSWERS_BYTES + 1));
  const one = request('one');
  service.start(contextOf('boss'), one);
  await settled();
  const state = service.state('boss', keyOf(one));
  expect(state).toMatchObject({ state: 'failed' });
  expect('reason' in state && state.reason).toContain(String(ANSWERS_BYTES + 1));
});

test('a failed evaluation does not keep another coordinator out', async () => {
  const { service, contextOf, settled } = setUp(async () => {
    throw new Error('no such file: /home/owner/base');
  });
  const one = request('one');
  service.start(contextOf('boss'), one);
  await settled();
  // The coordinator gets no text of an error of the machine, because it may name paths.
  expect(service.state('boss', keyOf(one))).toEqual({
    state: 'failed',
    reason: expect.stringMatching(/^(?!.*(?:no such file|owner)).*\S/),
  });
  service.start(contextOf('other'), one);
  expect(service.state('other', keyOf(one))).toMatchObject({ state: 'running' });
});

test('a stopped service begins no evaluation', async () => {
  const { service, asked, contextOf } = setUp();
  await service.stop();
  expect(() => service.start(contextOf('boss'), request('one'))).toThrow(withCode('EVALUATION_BUSY'));
  expect(asked).toEqual([]);
});
