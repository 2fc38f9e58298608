import { expect, test } from 'vitest';
import {
  decodeOptimizer,
  encodeOptimizer,
  freshOptimizer,
} from '../../../../../lora/train/optimizer/optimizer-state.ts';
import { withCode } from '../../../../utils/source/codes.ts';

const layout = [
  { name: 'a', shape: [2, 3] },
  { name: 'b', shape: [4, 1] },
] as const;

const state = {
  step: 17,
  m: [Float32Array.of(1, 2, 3, 4, 5, 6), Float32Array.of(7, 8, 9, 10)],
  v: [Float32Array.of(11, 12, 13, 14, 15, 16), Float32Array.of(17, 18, 19, 20)],
};

test('a state survives encoding, also from a pooled buffer', () => {
  const bytes = encodeOptimizer(state);
  expect(decodeOptimizer(bytes, layout)).toEqual(state);
  // At most one of two successive buffers begins at offset 0 of Node's pool, so the test also covers another offset.
  for (const pooled of [Buffer.from(bytes), Buffer.from(bytes)]) {
    expect(decodeOptimizer(pooled, layout)).toEqual(state);
  }
  const offset = new Uint8Array(bytes.length + 3).subarray(3);
  offset.set(bytes);
  expect(decodeOptimizer(offset, layout)).toEqual(state);
});

test('a loss scale survives encoding', () => {
  const scaled = { ...state, lossScale: { scale: 2 ** -3, runs: 1234 } };
  expect(decodeOptimizer(encodeOptimizer(scaled), layout)).toEqual(scaled);
});

test('a state of another size, or with an invalid number of steps, is refused', () => {
  const refused = withCode('OPTIMIZER_STATE');
  const bytes = encodeOptimizer(freshOptimizer(layout));
  expect(() => decodeOptimizer(bytes.subarray(4), layout)).toThrow(refused);
  for (const step of [Number.NaN, -1, 0.5, 2 ** 60]) {
    expect(() => decodeOptimizer(encodeOptimizer({ ...state, step }), layout), String(step)).toThrow(refused);
  }
});
