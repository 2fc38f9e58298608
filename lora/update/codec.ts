import { decodeDense, encodeDense } from './dense.ts';
import { updateError } from './errors.ts';
import {
  checkTensors,
  LAYOUT_DIGEST_BYTES,
  PRESET_NAMES,
  PRESETS,
  type Preset,
  planLayout,
  presetSettings,
  type SparseUpdate,
  type UpdateLayout,
  updateLimits,
  zeros,
} from './format.ts';
import { decodeSparse, encodeSparse } from './sparse.ts';

/** First three bytes of every update: "LSU", for lora-swarm update. */
const MAGIC = [0x4c, 0x53, 0x55] as const;
/** Version of the update format. */
export const UPDATE_VERSION = 1;

const VERSION_AT = 3;
const DIGEST_AT = 4;
const LENGTH_AT = DIGEST_AT + LAYOUT_DIGEST_BYTES;
const PRESET_AT = LENGTH_AT + 4;

/** Fills the first HEADER_BYTES of an update whose payload is complete. */
export function writeHeader(bytes: Uint8Array, layout: UpdateLayout, preset: Preset): void {
  bytes.set(MAGIC);
  bytes[VERSION_AT] = UPDATE_VERSION;
  bytes.set(planLayout(layout).digest, DIGEST_AT);
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(LENGTH_AT, bytes.length, true);
  bytes[PRESET_AT] = presetSettings(preset).code;
}

/** Returns the preset that an update names. @throws UPDATE_PRESET when the code of the preset is unknown */
export function updatePreset(bytes: Uint8Array): Preset {
  const code = bytes[PRESET_AT];
  const preset = PRESET_NAMES.find((candidate) => PRESETS[candidate].code === code);
  if (preset) return preset;
  throw updateError('UPDATE_PRESET', `the update has the unknown preset code ${code}`, { code });
}

/**
 * Checks the size and the header of an update, before the payload is read.
 * @throws UPDATE_SIZE, UPDATE_HEADER, UPDATE_LAYOUT, UPDATE_PRESET
 */
export function checkHeader(bytes: Uint8Array, layout: UpdateLayout, preset: Preset): void {
  const { minimumBytes, maximumBytes } = updateLimits(layout, preset);
  const given = bytes.length;
  if (given < minimumBytes || given > maximumBytes) {
    const message = `the update has ${given} bytes; an update of this adapter with preset ${preset} has ${minimumBytes} to ${maximumBytes}`;
    throw updateError('UPDATE_SIZE', message, {
      given,
      minimum: minimumBytes,
      maximum: maximumBytes,
      preset,
    });
  }
  if (MAGIC.some((byte, position) => bytes[position] !== byte)) {
    throw updateError('UPDATE_HEADER', 'the bytes are not an update: they do not begin with "LSU"');
  }
  const version = bytes[VERSION_AT]!;
  if (version !== UPDATE_VERSION) {
    throw updateError(
      'UPDATE_HEADER',
      `the update has format version ${version}; this program reads version ${UPDATE_VERSION}`,
      { version, expected: UPDATE_VERSION },
      { next: 'run the same release of lora-swarm as the sender of the update' },
    );
  }
  const code = bytes[PRESET_AT]!;
  if (code !== PRESETS[preset].code) {
    const name = PRESET_NAMES.find((candidate) => PRESETS[candidate].code === code) ?? `code ${code}`;
    throw updateError(
      'UPDATE_PRESET',
      `the update has preset ${name}; the job has preset ${preset}`,
      { code, preset },
      { next: "use the preset of the job's manifest" },
    );
  }
  const { digest } = planLayout(layout);
  if (digest.some((byte, position) => bytes[DIGEST_AT + position] !== byte)) {
    throw updateError(
      'UPDATE_LAYOUT',
      "the update's tensors differ from the tensors of the job's adapter",
      { expected: Buffer.from(digest).toString('hex') },
      { next: 'use the base and the LoRA settings of the job' },
    );
  }
  const declared = new DataView(bytes.buffer, bytes.byteOffset).getUint32(LENGTH_AT, true);
  if (declared !== given) {
    const message = `the update declares ${declared} bytes but has ${given}: it was truncated or padded`;
    throw updateError('UPDATE_SIZE', message, { declared, given });
  }
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
