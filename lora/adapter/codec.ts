import { sameShape } from '../graph/shapes.ts';
import { decodeFloats } from '../models/dtypes.ts';
import {
  decodeHeader,
  floatDtype,
  type SafetensorsEntry,
  type SafetensorsHeader,
} from '../models/safetensors.ts';
import { DEFAULT_METADATA, encodeSafetensors } from '../models/safetensors-writer.ts';
import { adapterError } from './errors.ts';
import { type AdapterLayout, adapterSize } from './layout.ts';

/**
 * Largest header of an adapter file in bytes. A tensor takes about 150 of them, and the largest Llama has
 * 2,646 adapter tensors with every linear module adapted by DoRA.
 */
export const MAX_ADAPTER_HEADER_BYTES = 2 ** 20;

/** Key of the file's metadata that names the base model the adapter belongs to. PEFT ignores it. */
export const BASE_DIGEST_KEY = 'base_digest';

/** Upper bound of an adapter file's size in bytes, for whoever receives one: float32 and the largest header. */
export function maxAdapterBytes(layout: AdapterLayout): number {
  return 8 + MAX_ADAPTER_HEADER_BYTES + adapterSize(layout) * Float32Array.BYTES_PER_ELEMENT;
}

/**
 * `adapter_model.safetensors` in float32. The same values give the same bytes on every machine, so their
 * SHA-256 names the adapter.
 *
 * @param tensors values in layout order
 * @param baseDigest digest of the base model, written into the file's metadata
 */
export function encodeAdapter(
  layout: AdapterLayout,
  tensors: readonly Float32Array[],
  baseDigest: string | null = null,
): Uint8Array {
  if (tensors.length !== layout.length)
    throw adapterError(
      'ADAPTER_TENSORS',
      `${tensors.length} tensors given for a layout of ${layout.length}`,
      { expected: layout.length, found: tensors.length },
    );
  return encodeSafetensors(
    layout.map(({ name, shape }, i) => ({ name, shape, dtype: 'F32' as const, data: tensors[i]! })),
    baseDigest === null ? DEFAULT_METADATA : { ...DEFAULT_METADATA, [BASE_DIGEST_KEY]: baseDigest },
  );
}

/**
 * Values of an adapter file in layout order, as float32 (F16 and BF16 are widened). The bytes may come from a
 * stranger: everything is checked before anything is allocated, and what is allocated follows from the
 * layout, not from the bytes.
 *
 * @throws SwarmError TENSORS_HEADER, TENSORS_ENTRY, TENSORS_TRUNCATED the file contradicts itself
 * @throws SwarmError ADAPTER_TENSORS, TENSORS_DTYPE its tensors are not exactly those of the layout
 * @throws SwarmError ADAPTER_NOT_FINITE a value is infinite or not a number
 */
export function decodeAdapter(bytes: Uint8Array, layout: AdapterLayout): Float32Array[] {
  const file = 'adapter_model.safetensors';
  const header = decodeHeader(bytes, file, MAX_ADAPTER_HEADER_BYTES);
  const entries = matchEntries(header, layout, file);
  return layout.map(({ name }, i) => {
    const { dtype, offset, length } = entries[i]!;
    const raw = bytes.subarray(offset, offset + length);
    // Copied, so that the result neither changes with the message it came in nor keeps it in memory.
    const values = decodeFloats(raw, floatDtype(file, name, dtype)).slice();
    checkFinite(values, name, file);
    return values;
  });
}

/** The entry of every tensor of the layout, in its order; refuses any other tensor. */
export function matchEntries(
  { entries }: SafetensorsHeader,
  layout: AdapterLayout,
  file: string,
): SafetensorsEntry[] {
  const matched = layout.map(({ name, shape }) => {
    const entry = entries.get(name);
    if (entry === undefined || !sameShape(entry.shape, shape))
      throw adapterError(
        'ADAPTER_TENSORS',
        `${file}: ${name} is ${entry ? `[${entry.shape.join(', ')}]` : 'missing'}, expected [${shape.join(', ')}]; the adapter belongs to another model or LoRA shape`,
        { file, tensor: name, expected: shape, found: entry?.shape ?? null },
      );
    floatDtype(file, name, entry.dtype);
    return entry;
  });
  if (entries.size !== layout.length) {
    const known = new Set(layout.map(({ name }) => name));
    const extra = [...entries.keys()].find((name) => !known.has(name))!;
    throw adapterError(
      'ADAPTER_TENSORS',
      `${file}: ${extra} is no tensor of this adapter (${layout.length} expected, ${entries.size} found)`,
      { file, tensor: extra, expected: layout.length, found: entries.size },
    );
  }
  return matched;
}

export function checkFinite(values: Float32Array, tensor: string, file: string): void {
  const index = values.findIndex((value) => !Number.isFinite(value));
  if (index !== -1)
    throw adapterError(
      'ADAPTER_NOT_FINITE',
      `${file}: ${tensor} holds ${values[index]} at position ${index}; the adapter is broken, use an earlier one`,
      { file, tensor, index, found: String(values[index]) },
    );
}
