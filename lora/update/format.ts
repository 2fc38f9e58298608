import { createHash } from 'node:crypto';
import { updateError } from './errors.ts';

/** A tensor of the adapter. All lists of tensors in this folder are in the order of the layout. */
export interface LayoutTensor {
  readonly name: string;
  readonly shape: readonly number[];
}

/** The tensors of an adapter. Every list of tensors has this order. */
export type UpdateLayout = readonly LayoutTensor[];

/** Sizes and digest of a layout, computed once. Encoder, decoder and merge take all sizes from here. */
export interface LayoutPlan {
  /** Number of values of each tensor. */
  readonly sizes: readonly number[];
  /** Number of values of all tensors. */
  readonly parameters: number;
  /** First 8 bytes of SHA-256 over the names and shapes; see `layoutDigest`. */
  readonly digest: Uint8Array;
}

/**
 * Maximum number of values of a layout. This limit keeps every offset and every sum of sizes within int32, which the
 * loops over typed arrays need.
 */
export const MAX_LAYOUT_PARAMETERS = 2 ** 30;

/**
 * Number of bytes of a layout's digest in an update. 8 bytes are enough, because this digest only catches mistakes. The
 * signed envelope binds an update to its job.
 */
export const LAYOUT_DIGEST_BYTES = 8;

const plans = new WeakMap<UpdateLayout, LayoutPlan>();

/**
 * Computes sizes and digest of a layout. Cached per layout object, which must not change afterwards.
 * @throws UPDATE_SHAPE when a dimension is not a positive integer, a name repeats or the total is too large
 */
export function planLayout(layout: UpdateLayout): LayoutPlan {
  const known = plans.get(layout);
  if (known) return known;
  const names = new Set<string>();
  let parameters = 0;
  const sizes = layout.map(({ name, shape }) => {
    if (names.has(name))
      throw updateError('UPDATE_SHAPE', `tensor ${name} occurs twice in the layout`, { name });
    names.add(name);
    const size = shape.reduce((product, dimension) => {
      if (Number.isSafeInteger(dimension) && dimension > 0) return product * dimension;
      throw updateError(
        'UPDATE_SHAPE',
        `tensor ${name} has shape [${shape}], where ${dimension} is not a positive integer`,
        {
          name,
          shape,
        },
      );
    }, 1);
    parameters += size;
    return size;
  });
  if (parameters === 0 || parameters > MAX_LAYOUT_PARAMETERS) {
    throw updateError(
      'UPDATE_SHAPE',
      `the layout has ${parameters} values; it can have 1 to ${MAX_LAYOUT_PARAMETERS}`,
      {
        parameters,
        maximum: MAX_LAYOUT_PARAMETERS,
      },
    );
  }
  const plan = { sizes, parameters, digest: layoutDigest(layout) };
  plans.set(layout, plan);
  return plan;
}

/** Computes the first 8 bytes of SHA-256 over the UTF-8 of `JSON.stringify([[name, [dimension, …]], …])`. */
function layoutDigest(layout: UpdateLayout): Uint8Array {
  const text = JSON.stringify(layout.map(({ name, shape }) => [name, shape]));
  return new Uint8Array(createHash('sha256').update(text).digest().subarray(0, LAYOUT_DIGEST_BYTES));
}

/**
 * Checks that there is one tensor of the right length for each entry of the layout.
 * @throws UPDATE_SHAPE
 */
export function checkTensors(layout: UpdateLayout, tensors: readonly Float32Array[]): void {
  const { sizes } = planLayout(layout);
  if (tensors.length !== sizes.length) {
    throw updateError('UPDATE_SHAPE', `got ${tensors.length} tensors; the layout has ${sizes.length}`, {
      given: tensors.length,
      expected: sizes.length,
    });
  }
  for (const [position, size] of sizes.entries()) {
    const given = tensors[position]!.length;
    if (given === size) continue;
    const { name } = layout[position]!;
    throw updateError('UPDATE_SHAPE', `tensor ${name} has ${given} values; the layout has ${size}`, {
      name,
      given,
      expected: size,
    });
  }
}

/** Returns a tensor of zeros for each entry of the layout. */
export function zeros(layout: UpdateLayout): Float32Array[] {
  return planLayout(layout).sizes.map((size) => new Float32Array(size));
}

/** Name of a compression preset, which sets how many values are sent. docs/update-format.md lists the size of each. */
export type Preset = 'tiny' | 'balanced' | 'quality' | 'dense';

/**
 * The values of one tensor that an update contains, by ascending row-major index. `indices` is null if the update
 * contains all values of the tensor.
 */
export interface TensorUpdate {
  readonly indices: Uint32Array | null;
  readonly values: Float32Array;
}

/** A decoded update: for each tensor of the layout, the indices and values that the encoded update contains. */
export interface SparseUpdate {
  readonly preset: Preset;
  readonly tensors: readonly TensorUpdate[];
}

/** Wire code of a preset, and the number of values that it keeps. */
export interface PresetSettings {
  /** Code of the preset in the header of an update: one byte. */
  readonly code: number;
  /** Number of values that are kept of every full chunk; null if all values are sent as 4-bit integers. */
  readonly kept: number | null;
}

/** The settings of each preset. */
export const PRESETS: Readonly<Record<Preset, PresetSettings>> = {
  tiny: { code: 1, kept: 64 },
  balanced: { code: 2, kept: 256 },
  quality: { code: 3, kept: 512 },
  dense: { code: 4, kept: null },
};

/** Names of all presets. */
export const PRESET_NAMES = Object.keys(PRESETS) as Preset[];

/**
 * Number of consecutive values of one tensor that share a scale and a fixed number of kept values (SparseLoCo, arXiv
 * 2508.15706).
 */
export const CHUNK_VALUES = 4096;

/**
 * Number of consecutive values of one tensor that share a scale in the dense preset. The scale costs 1/16 bit per
 * value.
 */
export const BLOCK_VALUES = 256;

/** Number of bits of a chunk's scale. */
export const SCALE_BITS = 13;
/**
 * Number of bits of the ratio that follows a chunk's scale. Each kept value has one of two magnitudes, and
 * the ratio is the lower magnitude divided by the upper one.
 */
export const RATIO_BITS = 7;

/** Bytes of a scale in the dense preset. The scale's 13 bits are padded with zeros to whole bytes. */
export const BLOCK_SCALE_BYTES = 2;

/** Number of bits of a kept value: one for the sign and one for the magnitude. */
export const VALUE_BITS = 2;

/**
 * Size of the header before the payload, in bytes. The header consists of the magic number (3 bytes), version
 * (1), layout digest (8), length (4) and preset (1).
 */
export const HEADER_BYTES = 17;

/**
 * Returns how many values of a chunk of `length` values are kept: max(1, round(kept·length/4096)).
 * @param kept number of values that are kept of a chunk of the full 4096 values
 */
export function keptCount(length: number, kept: number): number {
  return Math.max(1, Math.floor((2 * kept * length + CHUNK_VALUES) / (2 * CHUNK_VALUES)));
}

/**
 * Returns the divisor m of the Golomb code for the gaps of a chunk: ⌈ln 2 · length/kept − 0.85⌉, at least 1, computed
 * in integers so that all implementations agree. If the gaps have a geometric distribution with p = kept/length, the
 * best divisor is the smallest m with (1−p)ᵐ + (1−p)ᵐ⁺¹ ≤ 1 (Gallager and van Voorhis, "Optimal Source Codes for
 * Geometrically Distributed Integer Alphabets", 1975). The formula agrees with this best divisor to second order in p.
 */
export function golombDivisor(length: number, kept: number): number {
  return Math.max(1, Math.ceil((693 * length - 850 * kept) / (1000 * kept)));
}

/** Returns the number of bits of the longest remainder in truncated binary: ⌈log₂ divisor⌉. */
export function remainderBits(divisor: number): number {
  return 32 - Math.clz32(divisor - 1);
}

/**
 * Returns the maximum number of bits for the Golomb codes of a chunk's gaps (the gaps between the indices of its kept
 * values). The unary parts of the codes add up to at most (length − kept)/divisor, plus one bit for each code.
 */
function indexBitsAtMost(length: number, kept: number): number {
  const divisor = golombDivisor(length, kept);
  return kept * (1 + remainderBits(divisor)) + Math.floor((length - kept) / divisor);
}

function chunkBitsAtMost(length: number, kept: number): number {
  return SCALE_BITS + RATIO_BITS + indexBitsAtMost(length, kept) + kept * VALUE_BITS;
}

function blockBitsAtMost(length: number): number {
  return 8 * (BLOCK_SCALE_BYTES + Math.ceil(length / 2));
}

/**
 * Limits of an update that follow from its layout and preset. A decoder allocates memory by these limits,
 * never by the number of bytes that it received.
 */
export interface UpdateLimits {
  readonly minimumBytes: number;
  readonly maximumBytes: number;
  /** Maximum number of values that can be sent. */
  readonly maximumValues: number;
}

/** Computes the limits of an update for a layout and preset. An update outside them is refused before it is read. */
export function updateLimits(layout: UpdateLayout, preset: Preset): UpdateLimits {
  const { kept } = presetSettings(preset);
  const unit = kept === null ? BLOCK_VALUES : CHUNK_VALUES;
  let least = 0;
  let most = 0;
  let values = 0;
  const count = (length: number, times: number) => {
    const sent = kept === null ? length : keptCount(length, kept);
    values += times * sent;
    least += times * (kept === null ? 8 * BLOCK_SCALE_BYTES : SCALE_BITS);
    most += times * (kept === null ? blockBitsAtMost(length) : chunkBitsAtMost(length, sent));
  };
  for (const size of planLayout(layout).sizes) {
    const rest = size % unit;
    count(unit, (size - rest) / unit);
    if (rest > 0) count(rest, 1);
  }
  return {
    minimumBytes: HEADER_BYTES + Math.ceil(least / 8),
    maximumBytes: HEADER_BYTES + Math.ceil(most / 8),
    maximumValues: values,
  };
}

/** Returns the settings of a preset. @throws UPDATE_PRESET for an unknown name, which may come from a file */
export function presetSettings(preset: Preset): PresetSettings {
  if (Object.hasOwn(PRESETS, preset)) return PRESETS[preset];
  throw updateError(
    'UPDATE_PRESET',
    `there is no preset "${preset}"`,
    { preset },
    { next: `use one of ${PRESET_NAMES.join(', ')}` },
  );
}
