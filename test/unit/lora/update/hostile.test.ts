import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isSwarmError } from '../../../../common/errors.ts';
import {
  compressUpdate,
  decodeUpdate,
  encodeUpdate,
  PRESET_NAMES,
  type Preset,
  updateLimits,
} from '../../../../lora/update/index.ts';
import { referenceEncoding } from '../../../utils/swarm/update-reference.ts';
import { layoutOf, layouts, randomValues, tensorSets } from '../../../utils/swarm/updates.ts';

const presets = fc.constantFrom(...PRESET_NAMES);

/** Decodes an update. A refusal must have a code, and an accepted update must be the only encoding of its content. */
function attack(bytes: Uint8Array, layout: ReturnType<typeof layoutOf>, preset: Preset): string {
  try {
    const update = decodeUpdate(bytes, layout, preset);
    expect(
      Buffer.from(referenceEncoding(layout, update)).equals(Buffer.from(bytes)),
      'accepted, not canonical',
    ).toBe(true);
    for (const { values } of update.tensors) expect(values.every(Number.isFinite)).toBe(true);
    return 'accepted';
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    expect(error.code).toMatch(/^UPDATE_/);
    return error.code;
  }
}

const expectAttack = (bytes: Uint8Array, layout: ReturnType<typeof layoutOf>, preset: Preset) =>
  expect(attack(bytes, layout, preset));

/** Corrects the declared length, so that the decoder reads the payload. */
function relabel(bytes: Uint8Array): Uint8Array {
  new DataView(bytes.buffer).setUint32(12, bytes.length, true);
  return bytes;
}

test('refuses random bytes with a code', () => {
  fc.assert(
    fc.property(layouts, presets, fc.uint8Array({ maxLength: 600 }), (layout, preset, bytes) => {
      expect(attack(bytes, layout, preset)).not.toBe('accepted');
    }),
    { numRuns: 500 },
  );
});

test('refuses a random payload after a valid header, unless it is canonical', () => {
  fc.assert(
    fc.property(layouts, presets, fc.uint8Array({ maxLength: 900 }), (layout, preset, payload) => {
      const header = encodeUpdate(
        layout,
        layout.map(({ shape }) => new Float32Array(shape[0]!)),
        preset,
      ).bytes;
      attack(relabel(Uint8Array.from([...header.subarray(0, 17), ...payload])), layout, preset);
    }),
    { numRuns: 500 },
  );
});

test('refuses a mutated update, unless it is canonical', () => {
  const mutation = fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    flip: fc.integer({ min: 1, max: 255 }),
  });
  const outcomes = new Map<string, number>();
  fc.assert(
    fc.property(
      tensorSets,
      presets,
      fc.array(mutation, { minLength: 1, maxLength: 3 }),
      (set, preset, mutations) => {
        const { bytes } = compressUpdate(set.layout, set.tensors, preset);
        for (const { at, flip } of mutations) bytes[Math.floor(at * (bytes.length - 1))]! ^= flip;
        const outcome = attack(bytes, set.layout, preset);
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      },
    ),
    { numRuns: 500, seed: 1 },
  );
  expect([...outcomes.keys()]).toEqual(expect.arrayContaining(['accepted', 'UPDATE_SIZE', 'UPDATE_INDEX']));
});

test('refuses a truncated or lengthened update, even if its header declares the new length', () => {
  fc.assert(
    fc.property(tensorSets, presets, fc.integer({ min: -40, max: 40 }), ({ layout, tensors }, preset, by) => {
      if (by === 0) return;
      const { bytes } = compressUpdate(layout, tensors, preset);
      const changed = new Uint8Array(Math.max(0, bytes.length + by));
      changed.set(bytes.subarray(0, changed.length));
      expectAttack(changed.slice(), layout, preset).toBe('UPDATE_SIZE');
      if (changed.length >= 17) expectAttack(relabel(changed), layout, preset).not.toBe('accepted');
    }),
    { numRuns: 300 },
  );
});

describe('header', () => {
  const layout = layoutOf([5000]);
  const bytes = () => encodeUpdate(layout, [randomValues(5000, 'normal', 1)], 'balanced').bytes;
  const changed = (at: number, value: number) => {
    const copy = bytes();
    copy[at] = value;
    return copy;
  };

  test('gives each field its own error code', () => {
    expectAttack(bytes(), layout, 'balanced').toBe('accepted');
    expectAttack(changed(0, 0x6c), layout, 'balanced').toBe('UPDATE_HEADER');
    expectAttack(changed(3, 2), layout, 'balanced').toBe('UPDATE_HEADER');
    expectAttack(changed(4, bytes()[4]! ^ 1), layout, 'balanced').toBe('UPDATE_LAYOUT');
    expectAttack(changed(12, bytes()[12]! ^ 1), layout, 'balanced').toBe('UPDATE_SIZE');
    expectAttack(changed(15, 0xff), layout, 'balanced').toBe('UPDATE_SIZE');
    expectAttack(changed(16, 1), layout, 'balanced').toBe('UPDATE_PRESET');
    expectAttack(changed(16, 99), layout, 'balanced').toBe('UPDATE_PRESET');
    expectAttack(bytes(), [{ name: 'other', shape: [5000] }], 'balanced').toBe('UPDATE_LAYOUT');
    expectAttack(bytes(), [{ name: 'tensor0', shape: [50, 100] }], 'balanced').toBe('UPDATE_LAYOUT');
    expectAttack(new Uint8Array(), layout, 'balanced').toBe('UPDATE_SIZE');
    expectAttack(new Uint8Array(updateLimits(layout, 'balanced').maximumBytes + 1), layout, 'balanced').toBe(
      'UPDATE_SIZE',
    );
  });
});

/** Builds an update of one tensor from a payload written as a string of bits. */
function ofBits(layout: ReturnType<typeof layoutOf>, preset: Preset, bits: string): Uint8Array {
  const header = encodeUpdate(layout, [new Float32Array(layout[0]!.shape[0]!)], preset).bytes.subarray(0, 17);
  const payload = (bits.match(/.{1,8}/g) ?? []).map((byte) => Number.parseInt(byte.padEnd(8, '0'), 2));
  return relabel(Uint8Array.from([...header, ...payload]));
}

describe('sparse payload of two kept values out of 128 (tiny)', () => {
  const layout = layoutOf([128]);
  const scale = (5000).toString(2).padStart(13, '0');
  const ratio = (64).toString(2).padStart(7, '0');
  // For 2 of 128 values, the Golomb divisor is 44. A value is written as: the quotient of its gap in unary (zeros, then a 1),
  // the remainder (in 5 bits if it is below 20, else the remainder + 20 in 6 bits), the sign, and the magnitude.
  const first = '1' + '00011' + '01';
  const second = '01' + '00000' + '10';
  const tiny = (bits: string) => expectAttack(ofBits(layout, 'tiny', bits), layout, 'tiny');

  test('decodes a valid payload', () => {
    const { tensors } = decodeUpdate(ofBits(layout, 'tiny', scale + ratio + first + second), layout, 'tiny');
    expect([...tensors[0]!.indices!]).toEqual([3, 48]);
    expect(tensors[0]!.values[1]).toBe(-tensors[0]!.values[0]! / 2);
  });

  test('refuses an index beyond the chunk', () => {
    // The index 4 + 2·44 + 36 = 128 is one beyond the end. With the remainder 35, it is the last index.
    tiny(`${scale}${ratio}${first}001${'111000'}00`).toBe('UPDATE_INDEX');
    tiny(`${scale}${ratio}${first}001${'110111'}00`).toBe('accepted');
    tiny(`${scale}${ratio}${first}0001${'00000'}00`).toBe('UPDATE_INDEX');
  });

  test('refuses an endless unary part', () => {
    tiny(scale + ratio + '0'.repeat(20)).toBe('UPDATE_SIZE');
    const long = layoutOf([128 * 4096]);
    const { maximumBytes } = updateLimits(long, 'tiny');
    const bytes = ofBits(long, 'tiny', scale + ratio);
    const padded = new Uint8Array(maximumBytes);
    padded.set(bytes);
    expectAttack(relabel(padded), long, 'tiny').toBe('UPDATE_SIZE');
  });

  test('refuses levels that have another encoding', () => {
    tiny(`${scale + ratio}10001100${second}`).toBe('UPDATE_CANONICAL');
    tiny(`${scale + ratio + first}010000011`).toBe('UPDATE_CANONICAL');
    tiny(`${scale}0000000${first}010000010`).toBe('UPDATE_CANONICAL');
    tiny(`${scale}0000000${first}010000000`).toBe('accepted');
    tiny(`${scale}0000000${first}010000011`).toBe('accepted');
  });

  test('refuses bits after the end', () => {
    const bits = scale + ratio + first + second;
    tiny(bits + '0'.repeat((8 - (bits.length % 8)) % 8)).toBe('accepted');
    tiny(`${bits.padEnd(Math.ceil(bits.length / 8) * 8, '0').slice(0, -1)}1`).toBe('UPDATE_CANONICAL');
    tiny(bits + '0'.repeat(8)).toBe('UPDATE_SIZE');
  });
});

describe('dense payload', () => {
  const layout = layoutOf([3]);
  const dense = (...payload: number[]) =>
    expectAttack(
      ofBits(layout, 'dense', payload.map((byte) => byte.toString(2).padStart(8, '0')).join('')),
      layout,
      'dense',
    );

  test('refuses invalid scales, unused codes and padding', () => {
    dense(0x88, 0x13, 0x7e, 0x03).toBe('accepted');
    dense(0, 0).toBe('accepted');
    for (const scale of [0x2000, 0x7c00, 0x7e00, 0x8001, 0xfc00, 0xffff])
      dense(scale & 255, scale >> 8, 0x7e, 0x03).toBe('UPDATE_SCALE');
    dense(0x88, 0x13, 0x7f, 0x03).toBe('UPDATE_CANONICAL');
    dense(0x88, 0x13, 0x7e, 0x13).toBe('UPDATE_CANONICAL');
    dense(0x88, 0x13, 0x77, 0x07).toBe('UPDATE_CANONICAL');
    dense(0x88, 0x13, 0x67, 0x07).toBe('UPDATE_CANONICAL');
    dense(0x88, 0x13, 0x7e).toBe('UPDATE_SIZE');
    dense(0, 0, 0).toBe('UPDATE_SIZE');
  });
});

test('allocates what the layout implies, whatever the bytes declare', () => {
  const layout = layoutOf([64 * 4096]);
  const { maximumValues, maximumBytes } = updateLimits(layout, 'quality');
  const { bytes } = encodeUpdate(layout, [randomValues(64 * 4096, 'normal', 2)], 'quality');
  const before = process.memoryUsage().arrayBuffers;
  const { tensors } = decodeUpdate(bytes, layout, 'quality');
  const grown = process.memoryUsage().arrayBuffers - before;
  expect(tensors[0]!.values.buffer.byteLength + tensors[0]!.indices!.buffer.byteLength).toBe(
    8 * maximumValues,
  );
  expect(grown).toBeLessThanOrEqual(8 * maximumValues + maximumBytes + 64);
});
