import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  type Aggregation,
  aggregate,
  type MetricValue,
  statisticOf,
} from '../../../../../lora/evaluate/metrics/aggregate.ts';
import { exactMatch } from '../../../../../lora/evaluate/metrics/exact-match.ts';
import { type RougeType, rouge } from '../../../../../lora/evaluate/metrics/rouge.ts';
import { bootstrapError, standardError } from '../../../../../lora/evaluate/metrics/standard-error.ts';
import { PythonPattern } from '../../../../../lora/evaluate/python/regex.ts';

interface MetricCase {
  aggregation: Aggregation;
  items: MetricValue[];
  value: number;
  stderr: number | null;
  iters: number | null;
}

const parts = JSON.parse(
  readFileSync(new URL('../../../../fixtures/lm-eval/parts.json', import.meta.url), 'utf8'),
);
const pause = async () => {};

describe.each(parts.metrics as MetricCase[])(
  '$aggregation',
  ({ aggregation, items, value, stderr, iters }) => {
    it('has the value of lm-eval', () => {
      expect(aggregate(aggregation, items)).toBeCloseTo(value, 12);
    });

    it('has the standard error of lm-eval', async () => {
      const error =
        iters === null
          ? await standardError(aggregation, items, pause)
          : await bootstrapError(statisticOf(aggregation, items), items.length, iters, pause);
      if (stderr === null) expect(error).toBeNull();
      else expect(Math.abs(error! - stderr)).toBeLessThan(1e-12 * Math.max(1, stderr));
    });
  },
);

it('has no standard error of one document', async () => {
  expect(await standardError('mean', [1], pause)).toBeNull();
});

it('refuses f1 of more than two choices', () => {
  expect(() => aggregate('f1', [[2, 1]])).toThrow(RangeError);
});

it.each(parts.rouge as { prediction: string; reference: string; scores: Record<RougeType, number> }[])(
  'scores "$prediction" by ROUGE',
  ({ prediction, reference, scores }) => {
    for (const [type, score] of Object.entries(scores)) {
      expect(rouge(type as RougeType, prediction, reference)).toBeCloseTo(score, 14);
    }
  },
);

it('compares texts by exact match', () => {
  for (const { prediction, reference, options, value } of parts.exact) {
    const result = exactMatch(prediction, reference, {
      regexesToIgnore: (options.regexes_to_ignore ?? []).map((source: string) => new PythonPattern(source)),
      ignoreCase: options.ignore_case ?? false,
      ignorePunctuation: options.ignore_punctuation ?? false,
      ignoreNumbers: options.ignore_numbers ?? false,
    });
    expect({ prediction, options, value: Number(result) }).toEqual({ prediction, options, value });
  }
});
