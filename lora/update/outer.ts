import { addUpdate, decodeUpdate } from './codec.ts';
import { updateError } from './errors.ts';
import type { ErrorFeedback } from './feedback.ts';
import { checkTensors, type UpdateLayout } from './layout.ts';
import type { Preset } from './presets.ts';

/**
 * θ ← θ − rate·delta in float32, the product rounded before the difference. No momentum: error feedback takes its place.
 * @returns new tensors; the arguments stay as they are
 * @throws UPDATE_WEIGHT on a rate that is not finite, UPDATE_SHAPE
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
    throw updateError('UPDATE_SHAPE', 'The delta has other tensors than the adapter.', {
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

/** What the coordinator publishes once per round, however many peers have contributed. */
export interface PublishedDelta {
  readonly bytes: Uint8Array;
  /** To be kept, durably, when the delta is committed, and dropped when it is not. */
  readonly feedback: ErrorFeedback;
}

/**
 * Quantises rate·delta for the downlink. The outer rate is applied here and nowhere else.
 * @param feedback what earlier rounds left unsent, decay 1; it is not changed
 * @param preset how it is encoded. @default 'dense'
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
 * Applies a published delta to the checkpoint it belongs to. Coordinator and nodes all do this with the same bytes, and
 * so end with the same adapter, bit for bit.
 * @returns new tensors
 * @throws as `decodeUpdate`; UPDATE_SHAPE
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
  throw updateError('UPDATE_WEIGHT', `An outer rate of ${rate}; it is a finite number.`, { rate });
}
