import { expect, test } from 'vitest';
import { sequenceFeeds } from '../../../../lora/models/sequences.ts';
import { withCode } from '../../../utils/source/codes.ts';

test('positions restart with each segment', () => {
  const { ids, positions } = sequenceFeeds(
    [
      { ids: [7, 8, 9, 10], segments: [1, 1, 2, 2] },
      { ids: [1, 2, 3, 4], segments: [5, 5, 5, 5] },
      { ids: [1, 2, 3, 4], segments: [1, 0, 1, 1] },
    ],
    4,
  );
  expect([...ids]).toEqual([7n, 8n, 9n, 10n, 1n, 2n, 3n, 4n, 1n, 2n, 3n, 4n]);
  expect([...positions]).toEqual([0n, 1n, 0n, 1n, 0n, 1n, 2n, 3n, 0n, 0n, 0n, 1n]);
});

test('refuses rows of another length', () => {
  const refused = withCode('SEQUENCE_LENGTH');
  expect(() => sequenceFeeds([{ ids: [1, 2], segments: [1, 1] }], 3)).toThrow(refused);
  expect(() => sequenceFeeds([{ ids: [1, 2, 3], segments: [1, 1] }], 3)).toThrow(refused);
});
