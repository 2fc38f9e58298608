import fc from 'fast-check';
import { expect, test } from 'vitest';
import { sequenceFeeds } from '../../../lora/models/sequences.ts';

test('positions restart with each segment and the mask is block-diagonal and causal', () => {
  const { ids, positions, mask } = sequenceFeeds(
    [
      { ids: [7, 8, 9, 10], segments: [1, 1, 2, 2] },
      { ids: [1, 2, 3, 4], segments: [5, 5, 5, 5] },
    ],
    4,
  );
  expect([...ids]).toEqual([7n, 8n, 9n, 10n, 1n, 2n, 3n, 4n]);
  expect([...positions]).toEqual([0n, 1n, 0n, 1n, 0n, 1n, 2n, 3n]);
  const visible = Array.from({ length: 8 }, (_, row) =>
    [...mask.subarray(row * 4, row * 4 + 4)].map((value) => (value === 0 ? 'x' : '.')).join(''),
  );
  expect(visible).toEqual(['x...', 'xx..', '..x.', '..xx', 'x...', 'xx..', 'xxx.', 'xxxx']);
  expect(mask.every((value) => value === 0 || value < -1e8)).toBe(true);
});

test('a token sees exactly its own run of equal segment numbers up to itself', () => {
  const row = fc.array(fc.nat(2), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(row, (segments) => {
      const T = segments.length;
      const { mask, positions } = sequenceFeeds([{ ids: segments, segments }], T);
      for (let t = 0; t < T; t++) {
        for (let s = 0; s < T; s++) {
          const sees = s <= t && segments.slice(s, t + 1).every((segment) => segment === segments[t]);
          expect(mask[t * T + s] === 0, `${t} sees ${s}`).toBe(sees);
        }
        const seen = mask.subarray(t * T, (t + 1) * T).filter((value) => value === 0).length;
        expect(positions[t]).toBe(BigInt(seen - 1));
      }
    }),
  );
});

test('rows of another length are refused', () => {
  const refused = expect.objectContaining({ code: 'SEQUENCE_LENGTH' });
  expect(() => sequenceFeeds([{ ids: [1, 2], segments: [1, 1] }], 3)).toThrow(refused);
  expect(() => sequenceFeeds([{ ids: [1, 2, 3], segments: [1, 1] }], 3)).toThrow(refused);
});
