import { expect, test } from 'vitest';
import { limitMeaning, NODE_LIMITS } from '../../../monitor/node-limits.ts';

test('the meaning of a limit is a sentence that names the limit and its smallest value', () => {
  const meaning = (key: string) => limitMeaning(key, NODE_LIMITS[key]!);
  expect(meaning('max-upload')).toBe('max-upload sets the maximum upload, in MB per second, at least 0.1');
  expect(meaning('hours')).toMatch(/^hours sets the hours of the day/);
});
