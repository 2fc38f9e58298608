import { addUpdate, decodeUpdate } from './codec.ts';
import { updateError } from './errors.ts';
import type { ErrorFeedback } from './feedback.ts';
import { checkTensors, type UpdateLayout } from './layout.ts';
import type { Preset } from './presets.ts';

/**
 * Takes the outer step θ ← θ − rate·delta in float32. The product rate·delta is rounded before the subtraction. There
 * is no momentum, because error feedback replaces it.
 * @returns new tensors; the arguments stay unchanged
 * @throws UPDATE_WEIGHT if the rate is not finite, UPDATE_SHAPE
 */
export function outerStep(
  adapter: readonly Float32Array[],
  delta: readonly Float32Array[],
  rate: number,
): Float32Array[] {
  const step = checkedRate(rate);
  if (
    adapter.length !== delta.length ||
    adapter.some(({ length }, tensor) => length !== delta[tensor]!.length)
  ) {
    throw updateError('UPDATE_SHAPE', 'the tensors of the delta differ from the tensors of the adapter', {
      adapter: adapter.map(({ length }) => length),
      delta: delta.map(({ length }) => length),
    });
  }
  return adapter.map((values, tensor) => {
    const change = delta[tensor]!;
    const next = new Float32Array(values.length);
    for (let index = 0; index < next.length; index++) {
      next[index] = values[index]! - Math.fround(step * change[index]!);
    }
    return next;
  });
}

/** The delta that the coordinator publishes once per round, for any number of peers. */
export interface PublishedDelta {
  readonly bytes: Uint8Array;
  /** Error feedback after this delta. Store it durably when the delta is committed; otherwise drop it. */
  readonly feedback: ErrorFeedback;
}

/**
 * Encodes rate·delta as the coordinator publishes it. The outer rate is applied here and nowhere else.
 * @param feedback error feedback with decay 1. It holds the values that the deltas of earlier rounds left out. It stays
 *   unchanged.
 * @param preset preset of the encoding. @default 'dense'
 * @throws UPDATE_WEIGHT, UPDATE_SHAPE, UPDATE_VALUES
 */
export function encodeDelta(
  feedback: ErrorFeedback,
  delta: readonly Float32Array[],
  rate: number,
  preset: Preset = 'dense',
): PublishedDelta {
  const step = checkedRate(rate);
  const next = feedback.clone();
  next.add(delta.map((values) => scaled(values, step)));
  const bytes = next.compress(preset);
  return { bytes, feedback: next };
}

/**
 * Subtracts a published delta from the adapter of the parent checkpoint. Coordinator and nodes do this with the same
 * bytes, so they get the same adapter bit for bit.
 * @returns new tensors
 * @throws the errors of `decodeUpdate`; UPDATE_SHAPE
 */
export function applyDelta(
  layout: UpdateLayout,
  adapter: readonly Float32Array[],
  bytes: Uint8Array,
  preset: Preset = 'dense',
): Float32Array[] {
  checkTensors(layout, adapter);
  const update = decodeUpdate(bytes, layout, preset);
  const next = adapter.map((values) => values.slice());
  addUpdate(next, update, -1);
  return next;
}

function scaled(values: Float32Array, factor: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let index = 0; index < result.length; index++) result[index] = factor * values[index]!;
  return result;
}

function checkedRate(rate: number): number {
  if (Number.isFinite(rate)) return Math.fround(rate);
  throw updateError('UPDATE_WEIGHT', `outer rate ${rate} is not a finite number`, { rate });
}
