import { z } from 'zod';
import { bytesSchema } from '../ids.ts';
import { LARGEST_KEY_ID, PROOF_BYTES } from './job-key.ts';

/** The proof of a requester that it is admitted to a job (`proveMembership`). */
export const membershipProofSchema = z.strictObject({
  id: z.int().positive().max(LARGEST_KEY_ID),
  mac: bytesSchema.refine(({ length }) => length === PROOF_BYTES, `must be ${PROOF_BYTES} bytes`),
});
