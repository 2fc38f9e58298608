import * as dagCbor from '@ipld/dag-cbor';

/**
 * Returns the JSON text of an input. An input that is CBOR gives its value as JSON, because the changes of CBOR can replace
 * whole values. Any other input is the text itself.
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
