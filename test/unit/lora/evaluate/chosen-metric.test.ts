import { expect, test } from 'vitest';
import { chooseMetric } from '../../../../lora/evaluate/tasks/chosen-metric.ts';
import type { LoadedTasks } from '../../../../lora/evaluate/tasks/evaluate-tasks.ts';
import { withCode } from '../../../utils/source/codes.ts';

const task = (name: string, filters: string[], metrics: Record<string, boolean>) => ({
  config: {
    name,
    filters: filters.map((filter) => ({ name: filter })),
    metrics: Object.entries(metrics).map(([metric, higherIsBetter]) => ({ name: metric, higherIsBetter })),
  },
});
const LOADED = {
  tasks: [
    task('words', ['none'], { acc: true, perplexity: false }),
    task('sums', ['strict', 'last'], { exact_match: true }),
  ],
  groups: [{ config: { name: 'all', metrics: [{ metric: 'acc' }] }, tasks: ['words'] }],
} as unknown as LoadedTasks;

test.each([
  ['words.acc', 'words.acc,none', true],
  ['words.perplexity', 'words.perplexity,none', false],
  ['sums.exact_match', 'sums.exact_match,strict', true],
  ['sums.exact_match,last', 'sums.exact_match,last', true],
  ['all.acc', 'all.acc,none', true],
])('%s is the figure %s', (name, figure, higherIsBetter) => {
  expect(chooseMetric(name, LOADED)).toEqual({ figure, higherIsBetter });
});

test('a metric that the tasks do not have is refused, with those that they have', () => {
  for (const name of ['words.f1', 'word.acc', 'words.ac', 'sums.exact_match,none']) {
    expect(() => chooseMetric(name, LOADED), name).toThrow(withCode('TASK_METRIC'));
  }
});
