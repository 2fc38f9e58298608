import { createHash } from 'node:crypto';
import * as dagCbor from '@ipld/dag-cbor';
import type { z } from 'zod';
import { protocolError } from './errors.ts';

/** Encodes deterministically (DAG-CBOR): equal values give equal bytes, so that bytes can be hashed and signed. */
export function encodeCbor(value: unknown): Uint8Array {
  return dagCbor.encode(value);
}

/**
 * Decodes untrusted bytes and checks them against a schema.
 * @throws SwarmError MESSAGE_TOO_LARGE, MESSAGE_MALFORMED (not strict CBOR), MESSAGE_INVALID (wrong fields)
 */
export function decodeCbor<S extends z.ZodType>(bytes: Uint8Array, schema: S, maxBytes: number): z.infer<S> {
  if (bytes.byteLength > maxBytes) {
    throw protocolError('MESSAGE_TOO_LARGE', `a message of ${bytes.byteLength} bytes exceeds ${maxBytes}`, {
      bytes: bytes.byteLength,
      maxBytes,
    });
  }
  let value: unknown;
  try {
    value = dagCbor.decode(bytes);
  } catch (cause) {
    // cborg throws on bad bytes; extreme nesting overflows the stack. Both are errors of the sender.
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

/** Returns the SHA-256 in lower-case hex, the only digest on the wire. */
export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
