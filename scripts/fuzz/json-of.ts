import * as dagCbor from '@ipld/dag-cbor';
import { parseJsonObject } from '../../lora/models/json.ts';
import { encodeCbor } from '../../protocol/cbor.ts';
import type { FuzzDecoder } from './decoder.ts';

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

/**
 * Makes a decoder of JSON files. Its inputs are CBOR, in which the fuzzer can replace whole values. The decoder
 * converts an input to JSON first.
 * @param example valid content, from which each input is made
 */
export function json(
  name: string,
  example: unknown,
  decode: (value: Record<string, unknown>) => unknown,
): FuzzDecoder {
  return jsonText(name, [example], (text) => decode(parseJsonObject(text, name)));
}

/** Makes a decoder of JSON like `json`, except that `decode` gets the text and not the parsed value. */
export function jsonText(
  name: string,
  examples: readonly unknown[],
  decode: (text: string) => unknown,
): FuzzDecoder {
  return {
    name,
    cbor: true,
    example: (random) => encodeCbor(random.pick(examples)),
    decode: (bytes) => decode(jsonOf(bytes)),
  };
}
