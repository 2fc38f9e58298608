import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { chooseHeldOut } from '../../../../lora/data/held-out-choice.ts';
import { withCode } from '../../../utils/source/codes.ts';

/** Chooses the held-out examples in a simpler way, from a list of all hashes. */
function smallest(examples: number, share: number): Set<number> {
  const hashes = Array.from({ length: examples }, (_, index) => ({
    index,
    hash: createHash('sha256').update(`held-out/0/${index}`).digest('hex'),
  }));
  hashes.sort((a, b) => (a.hash < b.hash ? -1 : 1));
  const size = Math.min(examples - 1, Math.max(1, Math.round(share * examples)));
  return new Set(hashes.slice(0, size).map(({ index }) => index));
}

it('holds out the examples with the smallest hashes, for any number of examples', () => {
  const share = fc.double({ min: 0, max: 1, minExcluded: true, maxExcluded: true, noNaN: true });
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 3000 }), share, (examples, part) => {
      const chosen = chooseHeldOut(examples, part);
      const found = Array.from({ length: examples }, (_, index) => index).filter(chosen);
      expect(new Set(found)).toEqual(smallest(examples, part));
    }),
    { numRuns: 30 },
  );
});

it('never holds out all examples', () => {
  expect([0, 1].filter(chooseHeldOut(2, 0.99))).toHaveLength(1);
  expect(() => chooseHeldOut(1, 0.5)).toThrow(withCode('DATA_TOO_SMALL'));
});
