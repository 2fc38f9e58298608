import { expect, test } from 'vitest';
import {
  ADAPTER_BYTES,
  ANSWERS_BYTES,
  DETAIL_CHARACTERS,
  QUESTIONS_BYTES,
} from '../../../../protocol/limits.ts';
import { rpcMethods } from '../../../../protocol/requests/rpc.ts';

const digest = 'a'.repeat(64);
const { evaluate, evaluation } = rpcMethods;
const request = {
  job: digest,
  adapter: { digest, size: ADAPTER_BYTES },
  questions: { digest, size: QUESTIONS_BYTES },
  baseBits: 4,
};

test('a request to evaluate has limits on the blobs that the node fetches', () => {
  expect(evaluate.request.safeParse(request).success).toBe(true);
  for (const wrong of [
    { ...request, adapter: { digest, size: ADAPTER_BYTES + 1 } },
    { ...request, questions: { digest, size: QUESTIONS_BYTES + 1 } },
    { ...request, questions: { digest: 'no digest', size: 1 } },
    { ...request, baseBits: 16 },
    { ...request, more: 1 },
  ]) {
    expect(evaluate.request.safeParse(wrong).success).toBe(false);
  }
});

test('the state of an evaluation has limits on the answers and on the reason', () => {
  const done = { state: 'done', answers: { digest, size: ANSWERS_BYTES } };
  const failed = { state: 'failed', reason: 'a'.repeat(DETAIL_CHARACTERS) };
  for (const right of [done, failed, { state: 'running', done: 3 }]) {
    expect(evaluation.response.safeParse(right).success).toBe(true);
  }
  for (const wrong of [
    { ...done, answers: { digest, size: ANSWERS_BYTES + 1 } },
    { ...failed, reason: `${failed.reason}a` },
    { state: 'running', done: -1 },
  ]) {
    expect(evaluation.response.safeParse(wrong).success).toBe(false);
  }
});
