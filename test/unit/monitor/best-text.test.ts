import { expect, test } from 'vitest';
import { bestText } from '../../../monitor/best-text.ts';

const best = { round: 3, heldOutLoss: 2.5 };

test('shows the metric that chose the best checkpoint, and its loss', () => {
  const tasks = { metric: 'quiz.acc,none', best: { value: 0.5 } };
  expect(bestText({ best, tasks })).toBe('round 3, quiz.acc 0.5000, held-out loss 2.5000');
  expect(bestText({ best: null, tasks: { ...tasks, best: null } })).toBeNull();
});

test('shows only the loss if the loss chose the best checkpoint', () => {
  const text = 'round 3, held-out loss 2.5000';
  expect(bestText({ best, tasks: null })).toBe(text);
  expect(bestText({ best, tasks: { metric: null, best: null } })).toBe(text);
});
