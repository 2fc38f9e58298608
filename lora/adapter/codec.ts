import { sameShape } from '../graph/shapes.ts';
import { decodeFloats } from '../models/weights/dtypes.ts';
import {
  decodeHeader,
  floatDtype,
  type SafetensorsEntry,
  type SafetensorsHeader,
} from '../models/weights/safetensors.ts';
import { DEFAULT_METADATA, encodeSafetensors } from '../models/weights/safetensors-writer.ts';
import { adapterError } from './errors.ts';
import { type AdapterTensor, adapterSize } from './layout.ts';

/** Names and shapes of an adapter's tensors, in the order of its layout. */
type TensorShapes = readonly Pick<AdapterTensor, 'name' | 'shape'>[];

/**
 * Maximum header size of an adapter file in bytes. Each tensor takes about 150 bytes of the header. DoRA on every
 * linear module of the largest Llama makes 2,646 tensors, whose header takes about 400 KB.
 */
export const MAX_ADAPTER_HEADER_BYTES = 2 ** 20;

/** Metadata key with the digest of the adapter's base. PEFT ignores it. */
export const BASE_DIGEST_KEY = 'base_digest';

/**
 * Returns the maximum size in bytes of an adapter file that a peer may send: float32 values and a header of maximum
 * size.
 */
export function maxAdapterBytes(layout: TensorShapes): number {
  return 8 + MAX_ADAPTER_HEADER_BYTES + adapterSize(layout) * Float32Array.BYTES_PER_ELEMENT;
}

/**
 * Encodes `adapter_model.safetensors` in float32. Equal values give equal bytes on every machine, so the SHA-256 of the
 * bytes identifies the adapter.
 *
 * @param tensors values in layout order
 * @param baseDigest digest of the base for the file's metadata; null to write none
 * @throws SwarmError ADAPTER_TENSORS, TENSORS_ENTRY if the tensors do not match the layout
 */
export function encodeAdapter(
  layout: TensorShapes,
  tensors: readonly Float32Array[],
  baseDigest: string | null = null,
): Uint8Array {
  if (tensors.length !== layout.length)
    throw adapterError('ADAPTER_TENSORS', `got ${tensors.length} tensors for a layout of ${layout.length}`, {
      expected: layout.length,
      found: tensors.length,
    });
  return encodeSafetensors(
    layout.map(({ name, shape }, i) => ({ name, shape, dtype: 'F32' as const, data: tensors[i]! })),
    baseDigest === null ? DEFAULT_METADATA : { ...DEFAULT_METADATA, [BASE_DIGEST_KEY]: baseDigest },
  );
}

/**
 * Decodes an adapter file to float32 values in layout order; F16 and BF16 are widened. The bytes are
 * untrusted, so their header is checked against the layout before memory for values is allocated.
 *
 * @throws SwarmError TENSORS_HEADER, TENSORS_ENTRY, TENSORS_TRUNCATED if the file is malformed
 * @throws SwarmError ADAPTER_TENSORS, TENSORS_DTYPE if the file's tensors do not match the layout exactly
 * @throws SwarmError ADAPTER_NOT_FINITE if a value is infinite or not a number
 */
export function decodeAdapter(bytes: Uint8Array, layout: TensorShapes): Float32Array[] {
  const file = 'adapter_model.safetensors';
  const header = decodeHeader(bytes, file, MAX_ADAPTER_HEADER_BYTES);
  const entries = matchEntries(header, layout, file);
  return layout.map(({ name }, i) => {
    const { dtype, offset, length } = entries[i]!;
    const raw = bytes.subarray(offset, offset + length);
    // The values are copied, because a view would keep the received message in memory and would change with it.
    const values = decodeFloats(raw, floatDtype(file, name, dtype)).slice();
    checkFinite(values, name, file);
    return values;
  });
}

/**
 * Returns the entries of the layout's tensors, in the order of the layout.
 * @param file name of the file, for errors
 * @param next advice if the tensors do not match. @default the advice of ADAPTER_TENSORS
 * @throws SwarmError ADAPTER_TENSORS, TENSORS_DTYPE if the file's tensors do not match the layout exactly
 */
export function matchEntries(
  { entries }: SafetensorsHeader,
  layout: TensorShapes,
  file: string,
  next?: string,
): SafetensorsEntry[] {
  const matched = layout.map(({ name, shape }) => {
    const entry = entries.get(name);
    if (entry === undefined || !sameShape(entry.shape, shape))
      throw adapterError(
        'ADAPTER_TENSORS',
        `${file}: ${name} is ${entry ? `[${entry.shape.join(', ')}]` : 'missing'}, expected [${shape.join(', ')}]`,
        { file, tensor: name, expected: shape, found: entry?.shape ?? null },
        { next },
      );
    floatDtype(file, name, entry.dtype);
    return entry;
  });
  if (entries.size !== layout.length) {
    const known = new Set(layout.map(({ name }) => name));
    const extra = [...entries.keys()].find((name) => !known.has(name))!;
    throw adapterError(
      'ADAPTER_TENSORS',
      `${file}: ${extra} is not a tensor of this adapter (expected ${layout.length} tensors, found ${entries.size})`,
      { file, tensor: extra, expected: layout.length, found: entries.size },
      { next },
    );
  }
  return matched;
}

/** @throws SwarmError ADAPTER_NOT_FINITE if a value is infinite or not a number */
export function checkFinite(values: Float32Array, tensor: string, file: string): void {
  const index = values.findIndex((value) => !Number.isFinite(value));
  if (index !== -1)
    throw adapterError(
      'ADAPTER_NOT_FINITE',
      `${file}: ${tensor} has the value ${values[index]} at index ${index}`,
      { file, tensor, index, found: String(values[index]) },
    );
}
