import { decode } from '@ipld/dag-cbor';
import { z } from 'zod';
import { decodeCbor, encodeCbor } from './cbor.ts';
import { bytesSchema, peerIdSchema } from './ids.ts';
import { type Update, updateSchema } from './messages.ts';
import { type Verified, verifyMessage } from './signing.ts';

/**
 * Maximum size of evidence. Evidence has the fields of an update, which contain no free text, and a few fields around
 * them.
 */
export const EVIDENCE_BYTES = 2048;

const evidenceSchema = z.strictObject({
  kind: z.literal('update'),
  author: peerIdSchema,
  body: bytesSchema,
  signature: bytesSchema,
  inlined: z.boolean(),
});

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
 * Removes the inline payload from a signed update and encodes the rest as evidence.
 * @param envelope a verified update
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

/**
 * Returns whether the update's payload must be put back into the evidence before the signature can be
 * verified.
 */
export function lacksPayload(evidence: Uint8Array): boolean {
  return decode<Evidence>(evidence).inlined;
}

/** Puts the inline payload back into evidence. Returns the signed message as it arrived. */
export function restoreEnvelope(evidence: Uint8Array, payload: Uint8Array): Uint8Array {
  const { inlined, body, ...envelope } = decode<Evidence>(evidence);
  const whole = inlined ? encodeCbor({ ...decode<Update>(body), inline: payload }) : body;
  return encodeCbor({ ...envelope, body: whole });
}

/** The content of evidence that a peer sent, before its signature has been verified. */
export interface ClaimedUpdate {
  readonly author: string;
  readonly update: Update;
  /** Whether the payload is needed to verify the signature. */
  readonly inlined: boolean;
}

/** Decodes evidence that a peer sent. @throws SwarmError MESSAGE_TOO_LARGE, MESSAGE_MALFORMED, MESSAGE_INVALID */
export function decodeEvidence(evidence: Uint8Array): ClaimedUpdate {
  const { author, body, inlined } = decodeCbor(evidence, evidenceSchema, EVIDENCE_BYTES);
  return { author, inlined, update: decodeCbor(body, updateSchema, EVIDENCE_BYTES) };
}

/**
 * Verifies the signature of evidence that a peer sent.
 * @param payload the update's payload, which is ignored if the update did not contain it
 * @throws SwarmError SIGNATURE_INVALID, MESSAGE_*
 */
export function verifyEvidence(evidence: Uint8Array, payload: Uint8Array): Verified<'update'> {
  decodeEvidence(evidence);
  return verifyMessage('update', restoreEnvelope(evidence, payload));
}
