import { restoreEnvelope } from '../../protocol/evidence.ts';
import { type Verified, verifyMessage } from '../../protocol/signing.ts';

/**
 * Verifies stored evidence together with its payload.
 * @throws SwarmError SIGNATURE_INVALID if the evidence or the payload has been changed
 */
export function verifyEvidence(evidence: Uint8Array, payload: Uint8Array): Verified<'update'> {
  return verifyMessage('update', restoreEnvelope(evidence, payload));
}
