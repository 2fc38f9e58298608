import { decode } from '@ipld/dag-cbor';
import { encodeCbor } from '../../protocol/cbor.ts';
import type { Update } from '../../protocol/messages.ts';
import { type Verified, verifyMessage } from '../../protocol/signing.ts';

/**
 * A signed update without the payload that travelled inside it: a few hundred bytes that, together with the payload's
 * blob, still prove who sent what. The signature covers the inline payload too, so the whole is put together again to
 * check it.
 */
interface Evidence {
  kind: string;
  author: string;
  body: Uint8Array;
  signature: Uint8Array;
  inlined: boolean;
}

/** @param envelope a signed update that `open` has accepted */
export function keepEvidence(envelope: Uint8Array): Uint8Array {
  const { kind, author, body, signature } = decode<Omit<Evidence, 'inlined'>>(envelope);
  const update = decode<Update>(body);
  const inlined = update.inline !== null;
  const bare = inlined ? encodeCbor({ ...update, inline: null }) : body;
  return encodeCbor({ kind, author, body: bare, signature, inlined } satisfies Evidence);
}

/**
 * Checks kept evidence against the payload it belongs to.
 * @throws SwarmError SIGNATURE_INVALID when either has been changed
 */
export function verifyEvidence(evidence: Uint8Array, payload: Uint8Array): Verified<'update'> {
  const { inlined, body, ...envelope } = decode<Evidence>(evidence);
  const whole = inlined ? encodeCbor({ ...decode<Update>(body), inline: payload }) : body;
  return verifyMessage('update', encodeCbor({ ...envelope, body: whole }));
}
