import { updateError } from './errors.ts';
import { LAYOUT_DIGEST_BYTES, planLayout, type UpdateLayout } from './layout.ts';
import { PRESET_NAMES, PRESETS, type Preset, presetSettings, updateLimits } from './presets.ts';

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
