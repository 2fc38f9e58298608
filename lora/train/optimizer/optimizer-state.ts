import { planLayout, type UpdateLayout, zeros } from '../../update/format.ts';
import { trainError } from '../errors.ts';
import type { AdamWState } from './adamw.ts';

/**
 * Length of the part of a stored state before the moments. A stored state has these parts, all little-endian:
 * - the number of steps (float64)
 * - all first moments, then all second moments (float32)
 * - only with float16: the loss scale, and the number of runs of the graph since the loss scale last changed
 *   (both float64)
 */
const HEADER_BYTES = 8;
const LOSS_SCALE_BYTES = 16;

/** Returns the state of an optimiser before its first step. */
export function freshOptimizer(layout: UpdateLayout): AdamWState {
  return { step: 0, m: zeros(layout), v: zeros(layout) };
}

export function encodeOptimizer(state: AdamWState): Uint8Array {
  const tensors = [...state.m, ...state.v];
  const { lossScale } = state;
  const size = tensors.reduce((sum, tensor) => sum + tensor.byteLength, HEADER_BYTES);
  const bytes = new Uint8Array(size + (lossScale ? LOSS_SCALE_BYTES : 0));
  const view = new DataView(bytes.buffer);
  view.setFloat64(0, state.step, true);
  if (lossScale) {
    view.setFloat64(size, lossScale.scale, true);
    view.setFloat64(size + 8, lossScale.runs, true);
  }
  let at = HEADER_BYTES;
  for (const tensor of tensors) {
    bytes.set(new Uint8Array(tensor.buffer, tensor.byteOffset, tensor.byteLength), at);
    at += tensor.byteLength;
  }
  return bytes;
}

/**
 * @throws SwarmError OPTIMIZER_STATE if the bytes belong to a different adapter, or contain a step that is not an
 * integer ≥ 0
 */
export function decodeOptimizer(bytes: Uint8Array, layout: UpdateLayout): AdamWState {
  const { parameters } = planLayout(layout);
  const expected = HEADER_BYTES + 2 * 4 * parameters;
  if (bytes.length !== expected && bytes.length !== expected + LOSS_SCALE_BYTES) {
    throw trainError(
      'OPTIMIZER_STATE',
      `the optimiser state has ${bytes.length} bytes, but this adapter needs ${expected}`,
      { given: bytes.length, expected },
    );
  }
  // `slice` of a Buffer would return a view into Node's shared pool instead of a copy.
  const copy = new Uint8Array(bytes);
  const view = new DataView(copy.buffer);
  const step = view.getFloat64(0, true);
  if (!Number.isSafeInteger(step) || step < 0) {
    throw trainError('OPTIMIZER_STATE', `the optimiser state has an invalid number of steps: ${step}`, {
      step,
    });
  }
  const values = new Float32Array(copy.buffer, HEADER_BYTES, 2 * parameters);
  let at = 0;
  const read = (): Float32Array[] =>
    zeros(layout).map((tensor) => {
      tensor.set(values.subarray(at, at + tensor.length));
      at += tensor.length;
      return tensor;
    });
  const state = { step, m: read(), v: read() };
  if (bytes.length === expected) return state;
  const [scale, runs] = [view.getFloat64(expected, true), view.getFloat64(expected + 8, true)];
  return { ...state, lossScale: { scale, runs } };
}
