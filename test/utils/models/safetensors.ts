/** Encodes a safetensors file with an arbitrary header (bytes, text or JSON), for malformed files. */
export function rawSafetensors(header: unknown, dataBytes: number, declared?: bigint): Uint8Array {
  const raw = typeof header === 'string' || Buffer.isBuffer(header);
  const json = raw ? Buffer.from(header) : Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(declared ?? BigInt(json.byteLength));
  return Buffer.concat([prefix, json, Buffer.alloc(dataBytes)]);
}
