import { z } from 'zod';
import { bytesSchema } from '../ids.ts';
import { JOB_KEY_BYTES, LARGEST_KEY_ID } from './job-key.ts';
import { SEALING_KEY_BYTES } from './sealing.ts';

/** The keys of a job, for peers that may read it. */
export const jobKeysSchema = z.strictObject({
  /** Public key to which nodes seal updates and heartbeats. */
  seal: bytesSchema.refine(
    ({ length }) => length === SEALING_KEY_BYTES,
    `must be ${SEALING_KEY_BYTES} bytes`,
  ),
  /** Id and bytes of the key with which the coordinator currently encrypts heads. */
  id: z.int().positive().max(LARGEST_KEY_ID),
  key: bytesSchema.refine(({ length }) => length === JOB_KEY_BYTES, `must be ${JOB_KEY_BYTES} bytes`),
});
/** The keys of a job, as its coordinator sends them. */
export type JobKeysMessage = z.infer<typeof jobKeysSchema>;
