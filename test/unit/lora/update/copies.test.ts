import { expect, test } from 'vitest';
import {
  compressUpdate,
  findCopies,
  likeness,
  PRESET_NAMES,
  toTensors,
} from '../../../../lora/update/index.ts';
import { layoutOf, randomValues } from '../../../utils/updates.ts';

const layout = layoutOf([6000, 500]);
const values = (seed: number) =>
  layout.map(({ shape }, tensor) => randomValues(shape[0]!, 'normal', seed + tensor));

test.each(PRESET_NAMES)(
  'finds the copy, and the copy with noise, among independent updates: %s',
  (preset) => {
    const compress = (tensors: readonly Float32Array[]) => compressUpdate(layout, tensors, preset).update;
    const updates = [1, 11, 21, 1].map((seed) => compress(values(seed)));
    const published = toTensors(layout, updates[0]!);
    for (const [tensor, noise] of values(50).entries()) {
      for (const [index, value] of noise.entries()) published[tensor]![index]! += 0.2 * value;
    }
    updates.push(compress(published));
    const pairs = findCopies(layout, updates).map(({ first, second }) => [first, second]);
    expect(pairs).toEqual([
      [0, 3],
      [0, 4],
      [3, 4],
    ]);
  },
);

test('overlap and cosine are those of the full vectors', () => {
  const updates = [values(1), values(2)].map((tensors) => compressUpdate(layout, tensors, 'quality').update);
  const [a, b] = updates.map((update) => toTensors(layout, update).flatMap((tensor) => [...tensor]));
  const dot = (x: number[], y: number[]) => x.reduce((sum, value, index) => sum + value * y[index]!, 0);
  const sent = (x: number[]) => x.filter((value) => value !== 0).length;
  const [pair] = likeness(layout, updates);
  expect(pair!.cosine).toBeCloseTo(dot(a!, b!) / Math.sqrt(dot(a!, a!) * dot(b!, b!)), 10);
  expect(pair!.overlap).toBeCloseTo(sent(a!.filter((_, index) => b![index] !== 0)) / sent(a!), 1);
});

test('updates that send nothing are nobody’s copy', () => {
  const zero = layout.map(({ shape }) => new Float32Array(shape[0]!));
  const updates = [zero, zero].map((tensors) => compressUpdate(layout, tensors, 'tiny').update);
  expect(likeness(layout, updates)).toEqual([{ first: 0, second: 1, overlap: 0, cosine: 0 }]);
  expect(findCopies(layout, [])).toEqual([]);
});

test('dense updates have no overlap to compare, and thresholds can be set', () => {
  const [a, b] = [values(1), values(2)].map((tensors) => compressUpdate(layout, tensors, 'dense').update);
  expect(likeness(layout, [a!, b!])[0]!.overlap).toBeNull();
  const sparse = compressUpdate(layout, values(2), 'quality').update;
  expect(likeness(layout, [a!, sparse])[0]!.overlap).toBeNull();
  expect(findCopies(layout, [a!, b!])).toEqual([]);
  expect(findCopies(layout, [a!, b!], { cosine: -1 })).toHaveLength(1);
});
