import { expect, test } from 'vitest';
import { limitMeaning, NODE_LIMITS } from '../../../monitor/node-limits.ts';

test('the meaning of a limit is a sentence that names the limit and its smallest value', () => {
  const meaning = (key: string) => limitMeaning(key, NODE_LIMITS[key]!);
  expect(meaning('max-upload')).toMatch(/^max-upload [a-z].*\b0\.1$/);
  for (const key of ['max-upload', 'hours']) {
    expect(meaning(key).startsWith(`${key} `), key).toBe(true);
    expect(meaning(key)).toContain(NODE_LIMITS[key]!.help);
  }
});
