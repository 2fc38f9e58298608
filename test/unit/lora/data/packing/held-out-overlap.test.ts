import { expect, test } from 'vitest';
import { HeldOutOverlap, overlapWarning } from '../../../../../lora/data/packing/held-out-overlap.ts';
import { cutSequence, layOut } from '../../../../../lora/data/packing/pieces.ts';
import { IGNORED_LABEL } from '../../../../../lora/data/row.ts';

const piece = (...ids: number[]) => [...cutSequence(ids, null, { length: 8 })][0]!;
const [first, second, other] = [piece(1, 2, 3, 4), piece(5, 6), piece(7, 8, 9)];

test('is the share of the supervised held-out tokens whose pieces are in training rows', () => {
  const { ids, labels } = second;
  const untrained = { ids: [...ids, 9], labels: [...labels, IGNORED_LABEL] };
  const share = (training: (typeof first)[], heldOut: (typeof first)[]): number => {
    const overlap = new HeldOutOverlap(() => [layOut(heldOut, 8)]);
    overlap.addTraining(layOut(training, 8));
    return overlap.share();
  };
  expect(share([other, first], [first, second])).toBe(3 / 4);
  expect(share([second, first, second], [first, second])).toBe(1);
  expect(share([other], [first, second])).toBe(0);
  expect(share([untrained], [first, untrained])).toBe(1 / 4);
});

test('gives a warning unless the share is very small', () => {
  expect([0, 0.01].map(overlapWarning)).toEqual([null, null]);
  expect(overlapWarning(0.5)?.message).toContain('50 %');
  // The message does not name the samples, so the advice says what does.
  expect(overlapWarning(0.5)?.next).toContain('lora-swarm data inspect');
});
