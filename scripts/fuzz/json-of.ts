import * as dagCbor from '@ipld/dag-cbor';

/**
 * Returns the JSON text of an input of the fuzz test. If the input is CBOR, encodes its value as JSON. Otherwise,
 * returns the input as text. Examples are CBOR, because the fuzz test can replace whole values in CBOR.
 */
export function jsonOf(bytes: Uint8Array): string {
  try {
    const value: unknown = dagCbor.decode(bytes);
    return JSON.stringify(value, (_, one: unknown) => (typeof one === 'bigint' ? Number(one) : one)) ?? '';
  } catch {
    // The bytes are not CBOR.
    return Buffer.from(bytes).toString('utf8');
  }
}
