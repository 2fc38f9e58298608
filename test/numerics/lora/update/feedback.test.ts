import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeUpdate, ErrorFeedback, PRESET_NAMES, toTensors } from '../../../../lora/update/index.ts';
import { withCode } from '../../../utils/source/codes.ts';
import {
  layoutOf,
  layouts,
  randomValues,
  VALUE_KINDS,
  type ValueKind,
} from '../../../utils/swarm/updates.ts';

const presets = fc.constantFrom(...PRESET_NAMES);
const layout = layoutOf([5000, 1, 300]);
const round = (seed: number, kind: ValueKind = 'normal', of = layout) =>
  of.map(({ shape }, tensor) => randomValues(shape[0]!, kind, seed + 1000 * tensor));
const copy = (tensors: readonly Float32Array[]) => tensors.map((values) => values.slice());

test('loses nothing at decay 1: the sent values plus the residual are the sum of all changes', () => {
  const cases = fc.tuple(
    layouts,
    presets,
    fc.constantFrom(...VALUE_KINDS),
    fc.integer(),
    fc.integer({ min: 1, max: 12 }),
  );
  fc.assert(
    fc.property(cases, ([of, preset, kind, seed, rounds]) => {
      const feedback = new ErrorFeedback({ layout: of, decay: 1 });
      const changes = of.map(({ shape }) => new Float64Array(shape[0]!));
      const received = of.map(({ shape }) => new Float64Array(shape[0]!));
      // Two float32 operations round: residual + change, and residual − sent. Each rounds by at most 2⁻²⁴ of its result.
      const tolerance = of.map(({ shape }) => new Float64Array(shape[0]!).fill(Number.MIN_VALUE));
      const allowRounding = () => {
        for (const [tensor, values] of feedback.residual.entries()) {
          for (const [index, value] of values.entries())
            tolerance[tensor]![index]! += Math.abs(value) * 2 ** -24;
        }
      };
      for (let at = 0; at < rounds; at++) {
        const delta = round(seed + at, kind, of);
        feedback.add(delta);
        allowRounding();
        for (const [tensor, values] of delta.entries()) {
          for (const [index, value] of values.entries()) changes[tensor]![index]! += value;
        }
        const update = decodeUpdate(feedback.compress(preset), of, preset);
        allowRounding();
        for (const [tensor, values] of toTensors(of, update).entries()) {
          for (const [index, value] of values.entries()) received[tensor]![index]! += value;
        }
      }
      for (const [tensor, values] of feedback.residual.entries()) {
        for (const [index, residual] of values.entries()) {
          const lost = Math.abs(received[tensor]![index]! + residual - changes[tensor]![index]!);
          const allowed = tolerance[tensor]![index]!;
          if (lost > allowed)
            expect.fail(`${lost} lost at ${index} of tensor ${tensor}, ${allowed} is rounding`);
        }
      }
    }),
    { numRuns: 150 },
  );
});

test('follows e ← β·e + Δ, e ← e − sent', () => {
  const feedback = new ErrorFeedback({ layout, decay: 0.5 });
  let expected = round(0).map((values) => new Float32Array(values.length));
  for (let at = 1; at <= 4; at++) {
    const delta = round(at);
    feedback.add(delta);
    expected = expected.map((values, tensor) =>
      values.map((e, index) => Math.fround(0.5 * e) + delta[tensor]![index]!),
    );
    expect(feedback.residual).toEqual(expected);
    const sent = toTensors(layout, decodeUpdate(feedback.compress('balanced'), layout, 'balanced'));
    expected = expected.map((values, tensor) => values.map((e, index) => e - sent[tensor]![index]!));
    expect(feedback.residual).toEqual(expected);
  }
});

test('restores an update that was not accepted, decayed by the rounds since then', () => {
  fc.assert(
    fc.property(presets, fc.integer(), fc.integer({ min: 0, max: 3 }), (preset, seed, rounds) => {
      const kept = new ErrorFeedback({ layout });
      const taken = new ErrorFeedback({ layout });
      for (const feedback of [kept, taken]) feedback.add(round(seed));
      const bytes = taken.compress(preset);
      for (let at = 1; at <= rounds; at++) {
        for (const feedback of [kept, taken]) {
          if (at === 2) feedback.missRounds(1);
          else feedback.add(round(seed + at));
        }
      }
      taken.restore(bytes, rounds);
      for (const [tensor, values] of taken.residual.entries()) {
        for (const [index, value] of values.entries()) {
          expect(Math.abs(value - kept.residual[tensor]![index]!)).toBeLessThanOrEqual(1e-2 * 2 ** -20);
        }
      }
    }),
    { numRuns: 40 },
  );
});

test('decays the residual over missed rounds: to zero at decay 0, not at all at decay 1', () => {
  for (const [decay, factor] of [
    [0.5, 0.125],
    [0, 0],
    [1, 1],
  ] as const) {
    const feedback = new ErrorFeedback({ layout, decay });
    feedback.add(round(1));
    feedback.missRounds(3);
    expect(feedback.residual).toEqual(round(1).map((values) => values.map((value) => factor * value)));
  }
  const feedback = new ErrorFeedback({ layout });
  feedback.add(round(1));
  feedback.missRounds(Number.MAX_SAFE_INTEGER);
  expect(feedback.residual[0]!.every((value) => value === 0)).toBe(true);
});

test('leaves the original unchanged when a clone is used', () => {
  const feedback = new ErrorFeedback({ layout, decay: 1 });
  feedback.add(round(1));
  const before = copy(feedback.residual);
  const clone = feedback.clone();
  clone.add(round(2));
  clone.compress('dense');
  expect(feedback.residual).toEqual(before);
});

describe('on disk', () => {
  const used = () => {
    const feedback = new ErrorFeedback({ layout });
    feedback.add(round(1));
    feedback.compress('tiny');
    return feedback;
  };

  test('continues exactly as in memory', () => {
    const memory = used();
    const disk = ErrorFeedback.decode(memory.encode(), { layout });
    for (const feedback of [memory, disk]) feedback.add(round(2));
    expect(Buffer.from(disk.compress('quality')).equals(Buffer.from(memory.compress('quality')))).toBe(true);
    expect(disk.residual).toEqual(memory.residual);
  });

  test('detects every damaged byte', () => {
    const bytes = used().encode();
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const damaged = bytes.slice();
        damaged[at]! ^= flip;
        expect(() => ErrorFeedback.decode(damaged, { layout })).toThrow(withCode('UPDATE_RESIDUAL'));
      }),
    );
    for (const cut of [bytes.subarray(1), bytes.subarray(0, 40), new Uint8Array()]) {
      expect(() => ErrorFeedback.decode(cut, { layout })).toThrow(withCode('UPDATE_SIZE'));
    }
  });

  test('refuses the residual of another adapter', () => {
    const other = layout.map(({ name, shape }) => ({ name: `${name}x`, shape }));
    expect(() => ErrorFeedback.decode(used().encode(), { layout: other })).toThrow(withCode('UPDATE_LAYOUT'));
  });
});

test('refuses a diverged change and leaves the residual unchanged', () => {
  const feedback = new ErrorFeedback({ layout });
  feedback.add(round(1));
  const before = copy(feedback.residual);
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, 1e9, -1e9]) {
    const delta = round(2);
    delta[2]![299] = bad;
    expect(() => feedback.add(delta), `${bad}`).toThrow(withCode('UPDATE_VALUES'));
    expect(feedback.residual).toEqual(before);
  }
});

test('refuses an invalid decay and an invalid number of rounds', () => {
  const weight = withCode('UPDATE_WEIGHT');
  for (const decay of [-0.1, 1.1, Number.NaN])
    expect(() => new ErrorFeedback({ layout, decay })).toThrow(weight);
  const feedback = new ErrorFeedback({ layout });
  for (const rounds of [-1, 0.5, Number.NaN]) expect(() => feedback.missRounds(rounds)).toThrow(weight);
  expect(() => feedback.add([])).toThrow(withCode('UPDATE_SHAPE'));
});
