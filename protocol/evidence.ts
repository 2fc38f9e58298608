import { decode } from '@ipld/dag-cbor';
import { encodeCbor } from './cbor.ts';
import type { Update } from './messages.ts';

/**
 * A signed update without its inline payload, a few hundred bytes long. Together with the payload's blob, it still
 * proves who sent which update. The signature covers the inline payload, so the payload must be put back before the
 * signature can be verified (`restoreEnvelope`).
 */
interface Evidence {
  kind: string;
  author: string;
  body: Uint8Array;
  signature: Uint8Array;
  inlined: boolean;
}

/**
 * Removes the inline payload from a signed update and encodes the rest as evidence. @param envelope a verified update
 */
export function keepEvidence(envelope: Uint8Array): Uint8Array {
  const { kind, author, body, signature } = decode<Omit<Evidence, 'inlined'>>(envelope);
  const update = decode<Update>(body);
  const inlined = update.inline !== null;
  const bare = inlined ? encodeCbor({ ...update, inline: null }) : body;
  return encodeCbor({ kind, author, body: bare, signature, inlined } satisfies Evidence);
}

/** Returns whether an update and the evidence agree in all fields except the inline payload, which evidence lacks. */
export function saysTheSame(update: Update, evidence: Uint8Array): boolean {
  const bare = encodeCbor({ ...update, inline: null });
  return Buffer.compare(bare, decode<Evidence>(evidence).body) === 0;
}

/** Returns whether the evidence's signature can be verified only with the payload of the update put back into it. */
export function lacksPayload(evidence: Uint8Array): boolean {
  return decode<Evidence>(evidence).inlined;
}

/** Puts the inline payload back into evidence. Returns the signed message as it arrived. */
export function restoreEnvelope(evidence: Uint8Array, payload: Uint8Array): Uint8Array {
  const { inlined, body, ...envelope } = decode<Evidence>(evidence);
  const whole = inlined ? encodeCbor({ ...decode<Update>(body), inline: payload }) : body;
  return encodeCbor({ ...envelope, body: whole });
}
