import { expect, test } from 'vitest';
import {
  applyDelta,
  ErrorFeedback,
  encodeDelta,
  outerStep,
  PRESET_NAMES,
} from '../../../../lora/update/index.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { layoutOf, randomValues } from '../../../utils/swarm/updates.ts';

const layout = layoutOf([700, 40]);
const values = (seed: number) =>
  layout.map(({ shape }, tensor) => randomValues(shape[0]!, 'normal', seed + tensor));
const bytesOf = (tensors: readonly Float32Array[]) =>
  Buffer.concat(tensors.map((t) => Buffer.from(t.slice().buffer)));

test('the outer step computes θ − fround(rate·delta)', () => {
  const [adapter, delta] = [values(1), values(2)];
  const before = bytesOf(adapter);
  const next = outerStep(adapter, delta, 0.7);
  for (const [tensor, result] of next.entries()) {
    for (const [index, value] of result.entries()) {
      const step = Math.fround(Math.fround(0.7) * delta[tensor]![index]!);
      expect(value).toBe(Math.fround(adapter[tensor]![index]! - step));
    }
  }
  expect(bytesOf(adapter).equals(before)).toBe(true);
});

test.each(PRESET_NAMES)(
  '%s: every peer that applies the published bytes gets the same adapter, and nothing is lost',
  (preset) => {
    let feedback = new ErrorFeedback({ layout, decay: 1 });
    const start: Float32Array[] = values(1);
    let coordinator = start;
    let node: Float32Array[] = start.map((tensor) => tensor.slice());
    const wanted = start.map((tensor) => Float64Array.from(tensor));
    for (let round = 0; round < 6; round++) {
      const delta = values(10 + round);
      const published = encodeDelta(feedback, delta, 0.5, preset);
      // Encodes the delta of a merge that is then dropped. This must not change the residual.
      encodeDelta(feedback, values(99), 0.25, preset);
      feedback = published.feedback;
      coordinator = applyDelta(layout, coordinator, published.bytes, preset);
      node = applyDelta(layout, node, published.bytes, preset);
      expect(bytesOf(node).equals(bytesOf(coordinator)), `round ${round}`).toBe(true);
      for (const [tensor, change] of delta.entries()) {
        for (const [index, value] of change.entries()) wanted[tensor]![index]! -= 0.5 * value;
      }
    }
    for (const [tensor, target] of wanted.entries()) {
      for (const [index, value] of target.entries()) {
        const reached = coordinator[tensor]![index]! - feedback.residual[tensor]![index]!;
        expect(Math.abs(reached - value)).toBeLessThan(1e-8);
      }
    }
  },
);

test('refuses an invalid rate, and tensors that do not fit', () => {
  const weight = withCode('UPDATE_WEIGHT');
  const shape = withCode('UPDATE_SHAPE');
  for (const rate of [Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(() => outerStep(values(1), values(2), rate)).toThrow(weight);
    expect(() => encodeDelta(new ErrorFeedback({ layout, decay: 1 }), values(2), rate)).toThrow(weight);
  }
  expect(() => outerStep(values(1), values(2).slice(1), 1)).toThrow(shape);
  expect(() => outerStep(values(1), [new Float32Array(1), new Float32Array(40)], 1)).toThrow(shape);
  const { bytes } = encodeDelta(new ErrorFeedback({ layout, decay: 1 }), values(2), 1);
  expect(() => applyDelta(layout, values(1).slice(1), bytes)).toThrow(shape);
  expect(() => applyDelta(layout, values(1), bytes.subarray(0, -1))).toThrow(withCode('UPDATE_SIZE'));
});
