import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  compressUpdate,
  decodeUpdate,
  encodeUpdate,
  PRESET_NAMES,
  PRESETS,
  planLayout,
  toTensors,
  updateLimits,
} from '../../../../lora/update/index.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { referenceEncoding } from '../../../utils/swarm/update-reference.ts';
import { layoutOf, randomValues, tensorSets } from '../../../utils/swarm/updates.ts';

const presets = fc.constantFrom(...PRESET_NAMES);
const sparsePresets = PRESET_NAMES.filter((preset) => PRESETS[preset].kept !== null);

test('decodes exactly the values that the encoder reports as sent', () => {
  fc.assert(
    fc.property(tensorSets, presets, ({ layout, tensors }, preset) => {
      const { bytes, sent } = encodeUpdate(layout, tensors, preset);
      const decoded = toTensors(layout, decodeUpdate(bytes, layout, preset));
      expect(decoded).toEqual(sent);
    }),
    { numRuns: 300 },
  );
});

test('writes the bytes of the specification', () => {
  fc.assert(
    fc.property(tensorSets, presets, ({ layout, tensors }, preset) => {
      const { bytes, update } = compressUpdate(layout, tensors, preset);
      expect(Buffer.from(bytes).equals(Buffer.from(referenceEncoding(layout, update)))).toBe(true);
    }),
    { numRuns: 100 },
  );
});

test.each(sparsePresets)(
  '%s: writes the bytes of the specification for every length of a chunk',
  (preset) => {
    const differing: number[] = [];
    for (let size = 1; size <= 4096; size++) {
      const layout = layoutOf([size]);
      const { bytes, update } = compressUpdate(layout, [randomValues(size, 'normal', size)], preset);
      if (!Buffer.from(bytes).equals(Buffer.from(referenceEncoding(layout, update)))) differing.push(size);
    }
    expect(differing).toEqual([]);
  },
);

test('sends the k largest values of every chunk, or none if all are below the smallest scale', () => {
  fc.assert(
    fc.property(tensorSets, fc.constantFrom(...sparsePresets), ({ layout, tensors }, preset) => {
      const { bytes } = compressUpdate(layout, tensors, preset);
      for (const [tensor, { indices }] of decodeUpdate(bytes, layout, preset).tensors.entries()) {
        const values = tensors[tensor]!;
        for (let start = 0; start < values.length; start += 4096) {
          const length = Math.min(4096, values.length - start);
          const sent = [...indices!].filter((index) => index >= start && index < start + length);
          const kept = Math.max(1, Math.round((PRESETS[preset].kept! * length) / 4096));
          if (sent.length === 0) {
            expect(Math.max(...values.subarray(start, start + length).map(Math.abs))).toBeLessThan(2 ** -46);
            continue;
          }
          expect(sent.length).toBe(kept);
          const chosen = new Set(sent);
          const least = Math.min(...sent.map((index) => Math.abs(values[index]!)));
          for (let index = start; index < start + length; index++) {
            if (!chosen.has(index)) expect(Math.abs(values[index]!)).toBeLessThanOrEqual(least);
          }
        }
      }
    }),
    { numRuns: 60 },
  );
});

test('gives the same bytes for the same values at any place in memory', () => {
  fc.assert(
    fc.property(tensorSets, presets, ({ layout, tensors }, preset) => {
      const moved = tensors.map((values) => {
        const room = new Float32Array(values.length + 3);
        room.set(values, 3);
        return room.subarray(3);
      });
      const first = encodeUpdate(layout, tensors, preset);
      const second = encodeUpdate(layout, moved, preset);
      expect(Buffer.from(first.bytes).equals(Buffer.from(second.bytes))).toBe(true);
    }),
    { numRuns: 50 },
  );
});

test('never has a larger error than sending nothing', () => {
  fc.assert(
    fc.property(tensorSets, presets, ({ layout, tensors }, preset) => {
      const { sent } = encodeUpdate(layout, tensors, preset);
      for (const [tensor, values] of tensors.entries()) {
        let energy = 0;
        let error = 0;
        for (const [index, value] of values.entries()) {
          energy += value * value;
          error += (value - sent[tensor]![index]!) ** 2;
        }
        expect(error).toBeLessThanOrEqual(energy);
      }
    }),
  );
});

describe('size', () => {
  // Information content of an index in bits: log₂ C(length, kept) / kept, as a sum of logarithms.
  const bound = (length: number, kept: number) => {
    let bits = 0;
    for (let i = 0; i < kept; i++) bits += Math.log2((length - i) / (kept - i));
    return bits / kept;
  };
  const size = 64 * 4096;
  const layout = layoutOf([size]);

  test.each(sparsePresets)(
    '%s: indices take at most 1.5 % more bits than their information content',
    (preset) => {
      const { bytes } = encodeUpdate(layout, [randomValues(size, 'normal', 7)], preset);
      const { kept } = PRESETS[preset];
      const perValue = (8 * (bytes.length - 17) - 64 * 20) / (64 * kept!) - 2;
      expect(perValue).toBeLessThanOrEqual(1.015 * bound(4096, kept!));
      expect(perValue).toBeGreaterThan(bound(4096, kept!));
    },
  );

  test.each([
    ['tiny', 0.0195],
    ['balanced', 0.059],
    ['quality', 0.101],
    ['dense', 0.508],
  ] as const)('%s takes at most %d bytes per parameter', (preset, most) => {
    const { bytes } = encodeUpdate(layout, [randomValues(size, 'normal', 8)], preset);
    expect(bytes.length / size).toBeLessThanOrEqual(most);
  });

  test('every update is within its limits', () => {
    fc.assert(
      fc.property(tensorSets, presets, ({ layout, tensors }, preset) => {
        const { bytes, update } = compressUpdate(layout, tensors, preset);
        const limits = updateLimits(layout, preset);
        expect(bytes.length).toBeGreaterThanOrEqual(limits.minimumBytes);
        expect(bytes.length).toBeLessThanOrEqual(limits.maximumBytes);
        const count = update.tensors.reduce((sum, { values }) => sum + values.length, 0);
        expect(count).toBeLessThanOrEqual(limits.maximumValues);
      }),
    );
    // This tensor needs the most bits that 64 gaps can take: 63 gaps of the Golomb divisor minus one, and one gap with the
    // longest unary part.
    const worst = new Float32Array(4096);
    for (let entry = 1; entry < 64; entry++) worst[44 * entry - 1] = 1;
    worst[4095] = 1;
    const { bytes } = encodeUpdate(layoutOf([4096]), [worst], 'tiny');
    expect(bytes.length).toBeGreaterThanOrEqual(updateLimits(layoutOf([4096]), 'tiny').maximumBytes - 8);
    const nothing = encodeUpdate(layoutOf([4096]), [new Float32Array(4096)], 'tiny');
    expect(nothing.bytes.length).toBe(updateLimits(layoutOf([4096]), 'tiny').minimumBytes);
  });
});

test.each(PRESET_NAMES)('%s: sends a tensor of one value', (preset) => {
  for (const value of [1, -1, 0.3, -6e4, 1e-9, 0]) {
    const { bytes, sent } = encodeUpdate(layoutOf([1]), [Float32Array.of(value)], preset);
    expect(Math.abs(sent[0]![0]! - value)).toBeLessThanOrEqual(Math.abs(value) * 2 ** -7);
    expect(decodeUpdate(bytes, layoutOf([1]), preset).tensors[0]!.values.length).toBeLessThanOrEqual(1);
  }
});

test('keeps updates far below half precision, as of late steps at a decayed learning rate', () => {
  const tensors = [randomValues(4096, 'normal', 3).map((value) => value * 1e-6)];
  for (const preset of PRESET_NAMES) {
    const { sent } = encodeUpdate(layoutOf([4096]), tensors, preset);
    const energy = (values: Float32Array) => values.reduce((sum, value) => sum + value * value, 0);
    expect(energy(sent[0]!), preset).toBeGreaterThan(0.05 * energy(tensors[0]!));
  }
});

describe('refuses to encode', () => {
  const layout = layoutOf([300]);
  test.each(PRESET_NAMES)('values that are not finite or too large: %s', (preset) => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3e38, 2e6]) {
      const values = randomValues(300, 'normal', 5);
      values[299] = bad;
      expect(() => encodeUpdate(layout, [values], preset), `${bad}`).toThrow(withCode('UPDATE_VALUES'));
    }
  });

  test('tensors that do not fit the layout', () => {
    const shape = withCode('UPDATE_SHAPE');
    expect(() => encodeUpdate(layout, [], 'tiny')).toThrow(shape);
    expect(() => encodeUpdate(layout, [new Float32Array(299)], 'tiny')).toThrow(shape);
    expect(() => encodeUpdate(layoutOf([]), [], 'tiny')).toThrow(shape);
    expect(() => planLayout([{ name: 'a', shape: [0] }])).toThrow(shape);
    expect(() => planLayout([{ name: 'a', shape: [1.5] }])).toThrow(shape);
    expect(() => planLayout([{ name: 'a', shape: [2 ** 31] }])).toThrow(shape);
    expect(() => planLayout(['a', 'a'].map((name) => ({ name, shape: [1] })))).toThrow(shape);
  });

  test('a preset that does not exist', () => {
    const preset = 'toString' as 'tiny';
    expect(() => encodeUpdate(layout, [new Float32Array(300)], preset)).toThrow(withCode('UPDATE_PRESET'));
  });
});
