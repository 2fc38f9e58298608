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
 * @throws SwarmError MESSAGE_TOO_LARGE, MESSAGE_MALFORMED (not strict CBOR), MESSAGE_INVALID (wrong fields)
 */
export function decodeCbor<S extends z.ZodType>(bytes: Uint8Array, schema: S, maxBytes: number): z.infer<S> {
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

/** Returns the SHA-256 digest in lower-case hex. The protocol has no other kind of digest. */
export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
