import { expect, test } from 'vitest';
import { diskNote, limitMeaning, NODE_LIMITS } from '../../../monitor/node-limits.ts';

test('the meaning of a limit is a sentence that names the limit and its smallest value', () => {
  const meaning = (key: string) => limitMeaning(key, NODE_LIMITS[key]!);
  expect(meaning('max-upload')).toMatch(/^max-upload [a-z].*\b0\.1$/);
  for (const key of ['max-upload', 'hours']) {
    expect(meaning(key).startsWith(`${key} `), key).toBe(true);
    expect(meaning(key)).toContain(NODE_LIMITS[key]!.help);
  }
});

test('a note says if the home has more bytes than a limit on disk space that the owner has set', () => {
  expect(diskNote(2_000_000, 1_000_000)).toMatch(/2\.0 MB.*1\.0 MB/);
  expect([diskNote(1_000_000, 1_000_000), diskNote(2_000_000, undefined), diskNote(null, 1)]).toEqual([
    null,
    null,
    null,
  ]);
});

test('the help of max-memory says what the limit does not count', () => {
  expect(NODE_LIMITS['max-memory']!.help).toContain('activations');
});
