import { expect, test } from 'vitest';
import { PieceSet } from '../../../../../lora/data/packing/piece-set.ts';
import { cutSequence, layOut } from '../../../../../lora/data/packing/pieces.ts';

const pieces = (ids: readonly number[]) => [...cutSequence(ids, null, { length: 4 })];
const [long, longEnd] = pieces([1, 2, 3, 4, 5, 6, 7]);
const [short] = pieces([8, 9]);

test('contains the pieces of rows, wherever they are in a row', () => {
  const set = new PieceSet([layOut([long!], 4), layOut([short!, longEnd!], 4)]);
  for (const piece of [long!, longEnd!, short!]) expect(set.has(piece)).toBe(true);
  expect(set.has(pieces([1, 2, 3, 5, 6])[0]!)).toBe(false);
  // Padding is no piece.
  expect(set.has({ ids: [0], labels: [0] })).toBe(false);
});

test('keeps two pieces apart that stand beside each other in a row', () => {
  const set = new PieceSet([layOut([short!, short!], 4)]);
  expect(set.has({ ids: [...short!.ids, ...short!.ids], labels: [] })).toBe(false);
});
