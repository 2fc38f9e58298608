import * as dagCbor from '@ipld/dag-cbor';

/**
 * Returns the JSON text of an input of the fuzz test. If the input is CBOR, encodes its value as JSON.
 * Examples are CBOR, because the fuzz test can replace whole values in CBOR. Any other input is the text
 * itself.
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
