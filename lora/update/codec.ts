import { decodeDense, encodeDense } from './dense.ts';
import { updateError } from './errors.ts';
import { checkHeader, writeHeader } from './header.ts';
import { checkTensors, type UpdateLayout, zeros } from './layout.ts';
import { type Preset, presetSettings } from './presets.ts';
import type { TensorUpdate } from './sparse.ts';
import { decodeSparse } from './sparse-decode.ts';
import { encodeSparse } from './sparse-encode.ts';

/** A decoded update: for each tensor of the layout, the indices and values that the encoded update contains. */
export interface SparseUpdate {
  readonly preset: Preset;
  readonly tensors: readonly TensorUpdate[];
}

/**
 * Encodes one round's change of an adapter in the format of docs/update-format.md. Equal values give equal bytes.
 * @param tensors values to compress, one Float32Array per entry of the layout: the change plus the residual
 * @returns the encoded bytes, and the same update that a decoder reads from these bytes
 * @throws UPDATE_SHAPE when tensors and layout differ, UPDATE_VALUES when a value is too large or not finite
 */
export function compressUpdate(
  layout: UpdateLayout,
  tensors: readonly Float32Array[],
  preset: Preset,
): { bytes: Uint8Array; update: SparseUpdate } {
  checkTensors(layout, tensors);
  const { kept } = presetSettings(preset);
  const { bytes, tensors: sent } =
    kept === null ? encodeDense(layout, tensors) : encodeSparse(layout, tensors, preset, kept);
  writeHeader(bytes, layout, preset);
  return { bytes, update: { preset, tensors: sent } };
}

/**
 * Compresses like `compressUpdate`, but returns full tensors instead of a SparseUpdate. `sent` has the values that a
 * decoder reads from `bytes`, and 0 for each value that the compression left out.
 */
export function encodeUpdate(
  layout: UpdateLayout,
  tensors: readonly Float32Array[],
  preset: Preset,
): { bytes: Uint8Array; sent: Float32Array[] } {
  const { bytes, update } = compressUpdate(layout, tensors, preset);
  return { bytes, sent: toTensors(layout, update) };
}

/**
 * Decodes an update from an untrusted peer. Throws only SwarmErrors with an UPDATE_ code, and allocates no more than
 * layout and preset imply.
 * @throws UPDATE_SIZE, UPDATE_HEADER, UPDATE_LAYOUT, UPDATE_PRESET, UPDATE_SCALE, UPDATE_INDEX, UPDATE_CANONICAL
 */
export function decodeUpdate(bytes: Uint8Array, layout: UpdateLayout, preset: Preset): SparseUpdate {
  const { kept } = presetSettings(preset);
  checkHeader(bytes, layout, preset);
  const tensors = kept === null ? decodeDense(bytes, layout) : decodeSparse(bytes, layout, preset, kept);
  return { preset, tensors };
}

/** Returns an update as full tensors, with 0 for each value that the update does not contain. */
export function toTensors(layout: UpdateLayout, update: SparseUpdate): Float32Array[] {
  const tensors = zeros(layout);
  addUpdate(tensors, update, 1);
  return tensors;
}

/**
 * Adds `factor` times an update to full tensors, in float32.
 * @throws UPDATE_SHAPE when the update has a different number of tensors
 */
export function addUpdate(tensors: readonly Float32Array[], update: SparseUpdate, factor: number): void {
  if (update.tensors.length !== tensors.length) {
    throw updateError(
      'UPDATE_SHAPE',
      `the update has ${update.tensors.length} tensors; the adapter has ${tensors.length}`,
      {
        given: update.tensors.length,
        expected: tensors.length,
      },
    );
  }
  for (const [position, { indices, values }] of update.tensors.entries()) {
    const target = tensors[position]!;
    if (indices === null) {
      for (let index = 0; index < values.length; index++)
        target[index]! += Math.fround(factor * values[index]!);
    } else {
      for (let entry = 0; entry < values.length; entry++) {
        target[indices[entry]!]! += Math.fround(factor * values[entry]!);
      }
    }
  }
}
