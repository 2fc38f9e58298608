import { expect, test } from 'vitest';
import { SwarmError } from '../../../../common/errors.ts';
import type { RunContext } from '../../../../coordinator/context.ts';
import { askScorer } from '../../../../coordinator/evaluation/ask-scorer.ts';
import type { RpcResponse } from '../../../../protocol/requests/rpc.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';

type State = RpcResponse<'evaluation'>;
const SECOND = 1000;
const ANSWERS = { digest: 'c'.repeat(64), size: 7 };
const EVALUATION = {
  adapter: { digest: 'a'.repeat(64), size: 1 },
  questions: { digest: 'b'.repeat(64), size: 2 },
  baseBits: 8,
} as const;

/** Asks a scorer. `stateAt` returns its state after some seconds, or an error with which the request fails. */
async function ask(stateAt: (seconds: number) => State | SwarmError, runSeconds = 7 * 3600) {
  const clock = new VirtualClock(0);
  const requests: object[] = [];
  const fetched: object[] = [];
  const held: string[] = [];
  const network = {
    request: async (peer: string, method: string, body: object) => {
      if (requests.length === 0) requests.push({ peer, method, body });
      if (method === 'evaluate') return {};
      const state = stateAt(clock.now() / SECOND);
      if (state instanceof SwarmError) throw state;
      return state;
    },
    fetchBlob: async (ref: object, { holders, again }: { holders: string[]; again: boolean }) => {
      fetched.push({ ref, holders, again });
    },
  };
  const blobs = { get: async () => Buffer.from('answers') };
  const context = { job: 'd'.repeat(64), deps: { clock, network, blobs } } as unknown as RunContext;
  const scope = { hold: async (digest: string) => void held.push(digest), put: async () => '' };
  const { signal } = new AbortController();
  const result = askScorer('scorer', EVALUATION, { context, scope, signal }).then(
    (answers) => ({ answers, error: null, seconds: clock.now() / SECOND }),
    (error: unknown) => ({ answers: null, error: error as SwarmError, seconds: clock.now() / SECOND }),
  );
  await clock.run(() => false, runSeconds * SECOND);
  return { ...(await result), requests, fetched, held };
}

const running = (done: number): State => ({ state: 'running', done });
const unreachable = new SwarmError('RPC_UNREACHABLE', 'no connection', {});

test('the answers are fetched from the scorer, even if the store has a blob with their digest', async () => {
  const { answers, requests, fetched, held } = await ask((seconds) =>
    seconds < 100 ? running(seconds) : { state: 'done', answers: ANSWERS },
  );
  expect(answers).toEqual(Buffer.from('answers'));
  expect(requests).toEqual([
    { peer: 'scorer', method: 'evaluate', body: { job: 'd'.repeat(64), ...EVALUATION } },
  ]);
  expect(fetched).toEqual([{ ref: ANSWERS, holders: ['scorer'], again: true }]);
  expect(held).toEqual([ANSWERS.digest]);
});

test('a scorer that is unreachable for less than 45 s may go on, and later it counts as gone', async () => {
  const short = await ask((seconds) => {
    if (seconds < 60) return running(seconds);
    return seconds < 90 ? unreachable : { state: 'done', answers: ANSWERS };
  });
  expect(short.error).toBeNull();
  const long = await ask((seconds) => (seconds < 60 ? running(seconds) : unreachable));
  expect(long.error).toMatchObject({ code: 'RPC_UNREACHABLE' });
  expect(long.seconds).toBeLessThan(110);
});

test('a refusal is final, because the scorer has restarted or dropped the evaluation', async () => {
  const refused = new SwarmError('RPC_REFUSED', 'no such evaluation', { code: 'NOT_EVALUATING' });
  const { error, seconds } = await ask((at) => (at < 30 ? running(at) : refused));
  expect(error).toMatchObject({ code: 'RPC_REFUSED' });
  expect(seconds).toBeLessThan(36);
});

test('a failure of the scorer has its reason', async () => {
  const { error } = await ask(() => ({ state: 'failed', reason: 'the device is lost' }));
  expect(error).toMatchObject({ code: 'EVALUATION_FAILED' });
  expect(error!.message).toContain('the device is lost');
});

test('an evaluation ends after 15 minutes without progress, and after 6 hours', async () => {
  const idle = await ask((seconds) => running(Math.min(seconds, 60)));
  expect(idle.error).toMatchObject({ code: 'DEADLINE_EXCEEDED', values: { ms: 15 * 60 * SECOND } });
  const slow = await ask((seconds) => running(seconds));
  expect(slow.error).toMatchObject({ code: 'DEADLINE_EXCEEDED', values: { ms: 6 * 3600 * SECOND } });
});
