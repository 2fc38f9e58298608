import { createHash } from 'node:crypto';
import * as dagCbor from '@ipld/dag-cbor';
import type { z } from 'zod';
import { protocolError } from './errors.ts';

/** Encodes a value as DAG-CBOR. Equal values give equal bytes, so that the bytes can be hashed and signed. */
export function encodeCbor(value: unknown): Uint8Array {
  return dagCbor.encode(value);
}

/**
 * Decodes untrusted bytes and checks them against a schema.
 * @param maxItems maximum number of values, including keys, arrays and objects. Without it, a large message of tiny
 * values could take dozens of times its size in memory
 * @throws SwarmError MESSAGE_TOO_LARGE, MESSAGE_MALFORMED (not strict CBOR), MESSAGE_INVALID (wrong fields)
 */
export function decodeCbor<S extends z.ZodType>(
  bytes: Uint8Array,
  schema: S,
  maxBytes: number,
  maxItems = Number.POSITIVE_INFINITY,
): z.infer<S> {
  if (bytes.byteLength > maxBytes) {
    throw protocolError(
      'MESSAGE_TOO_LARGE',
      `a message of ${bytes.byteLength} bytes exceeds the limit of ${maxBytes}`,
      {
        bytes: bytes.byteLength,
        maxBytes,
      },
    );
  }
  if (maxItems < Number.POSITIVE_INFINITY && countItems(bytes, maxItems) > maxItems) {
    const message = `a message has more than ${maxItems} values`;
    throw protocolError('MESSAGE_TOO_LARGE', message, { bytes: bytes.byteLength, maxItems });
  }
  let value: unknown;
  try {
    value = dagCbor.decode(bytes);
  } catch (cause) {
    // cborg throws on bad bytes, and on extreme nesting, which overflows the stack. The sender is at fault for both.
    throw protocolError('MESSAGE_MALFORMED', 'a message is not strict CBOR', {}, { cause });
  }
  const result = schema.safeParse(value);
  if (!result.success) {
    const issue = result.error.issues[0];
    const field = issue?.path.join('.') || '(root)';
    throw protocolError('MESSAGE_INVALID', `field ${field} of a message is wrong: ${issue?.message}`, {
      field,
    });
  }
  return result.data;
}

/**
 * Counts the values in CBOR, including keys, arrays and objects, without decoding them. Stops at the first byte that
 * DAG-CBOR does not allow, where a decoder stops too.
 * @param most number of values after which counting stops. @default counts all values
 */
export function countItems(bytes: Uint8Array, most = Number.POSITIVE_INFINITY): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let count = 0;
  for (let at = 0; at < bytes.byteLength && count <= most; count++) {
    const head = bytes[at++]!;
    const [major, info] = [head >> 5, head & 31];
    if (info > 27) break;
    const width = info < 24 ? 0 : 1 << (info - 24);
    if (at + width > bytes.byteLength) break;
    let argument = info;
    if (width === 1) argument = view.getUint8(at);
    else if (width === 2) argument = view.getUint16(at);
    else if (width === 4) argument = view.getUint32(at);
    else if (width === 8) argument = Number(view.getBigUint64(at));
    // Only byte strings (2) and text strings (3) have content that does not consist of values.
    at += width + (major === 2 || major === 3 ? argument : 0);
  }
  return count;
}

/** Returns the SHA-256 digest in lower-case hex. The protocol has no other kind of digest. */
export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
