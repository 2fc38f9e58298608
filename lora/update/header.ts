import { updateError } from './errors.ts';
import { LAYOUT_DIGEST_BYTES, planLayout, type UpdateLayout } from './layout.ts';
import { PRESET_NAMES, PRESETS, type Preset, presetSettings, updateLimits } from './presets.ts';

/** "LSU": lora-swarm update. */
const MAGIC = [0x4c, 0x53, 0x55] as const;
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

/** Preset that an update names. @throws UPDATE_PRESET when it names none */
export function updatePreset(bytes: Uint8Array): Preset {
  const code = bytes[PRESET_AT];
  const preset = PRESET_NAMES.find((candidate) => PRESETS[candidate].code === code);
  if (preset) return preset;
  throw updateError('UPDATE_PRESET', `The update names no known preset (code ${code}).`, { code });
}

/**
 * Checks everything that can be known before the payload is read.
 * @throws UPDATE_SIZE, UPDATE_HEADER, UPDATE_LAYOUT, UPDATE_PRESET
 */
export function checkHeader(bytes: Uint8Array, layout: UpdateLayout, preset: Preset): void {
  const { minimumBytes, maximumBytes } = updateLimits(layout, preset);
  const given = bytes.length;
  if (given < minimumBytes || given > maximumBytes) {
    const message = `An update of ${given} bytes; ${preset} of this adapter takes ${minimumBytes} to ${maximumBytes}.`;
    throw updateError('UPDATE_SIZE', message, {
      given,
      minimum: minimumBytes,
      maximum: maximumBytes,
      preset,
    });
  }
  if (MAGIC.some((byte, position) => bytes[position] !== byte)) {
    throw updateError('UPDATE_HEADER', 'These bytes are not an update: they do not begin with "LSU".');
  }
  const version = bytes[VERSION_AT]!;
  if (version !== UPDATE_VERSION) {
    const message = `An update of format version ${version}, this program reads ${UPDATE_VERSION}: run the same release.`;
    throw updateError('UPDATE_HEADER', message, { version, expected: UPDATE_VERSION });
  }
  const code = bytes[PRESET_AT]!;
  if (code !== PRESETS[preset].code) {
    const name = PRESET_NAMES.find((candidate) => PRESETS[candidate].code === code) ?? `code ${code}`;
    const message = `An update of preset ${name} where ${preset} is asked for: use the preset of the job's manifest.`;
    throw updateError('UPDATE_PRESET', message, { code, preset });
  }
  const { digest } = planLayout(layout);
  if (digest.some((byte, position) => bytes[DIGEST_AT + position] !== byte)) {
    const message =
      'An update of an adapter with other tensors: its base model or LoRA settings differ from the job.';
    throw updateError('UPDATE_LAYOUT', message, { expected: Buffer.from(digest).toString('hex') });
  }
  const declared = new DataView(bytes.buffer, bytes.byteOffset).getUint32(LENGTH_AT, true);
  if (declared !== given) {
    const message = `An update that declares ${declared} bytes has ${given}: it was cut or padded on its way.`;
    throw updateError('UPDATE_SIZE', message, { declared, given });
  }
}
