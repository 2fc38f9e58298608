import { decode } from '@ipld/dag-cbor';
import { isSwarmError } from '../../common/errors.ts';
import { encodeCbor } from '../../protocol/cbor.ts';
import { UPDATE_BYTES } from '../../protocol/limits.ts';
import type { Update } from '../../protocol/messages.ts';
import { type Verified, verifyMessage } from '../../protocol/signing.ts';
import type { BlobStore } from '../../storage/blobs.ts';
import type { StoredUpdate } from '../store/store.ts';

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

/** `holds`: the author has signed just that; `expired`: the payload is no longer kept; `broken`: one has been changed. */
export type EvidenceState = 'holds' | 'expired' | 'broken';

/** Holds a recorded update's message against its payload and its author. */
export async function checkEvidence(
  { evidence, digest, round, peer }: StoredUpdate,
  blobs: Pick<BlobStore, 'get'>,
): Promise<EvidenceState> {
  try {
    const payload = await blobs.get(digest, { maxBytes: UPDATE_BYTES });
    const { author, message } = verifyEvidence(evidence, payload);
    return author === peer && message.round === round && message.payload.digest === digest
      ? 'holds'
      : 'broken';
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    return error.code === 'BLOB_MISSING' ? 'expired' : 'broken';
  }
}
