import { z } from 'zod';

/** How far the coordinator trusts the person who answers for a node. */
export const standingSchema = z.strictObject({
  kind: z.enum(['good', 'probation', 'suspended']),
  /** The last round of the probation or suspension; null in good standing. */
  untilRound: z.int().positive().nullable(),
  /** Number of recorded misdeeds that the operator has not pardoned. */
  strikes: z.int().nonnegative(),
});

export const roleSchema = z.enum(['contributor', 'observer', 'operator']);
/**
 * The rights of a member of a job. A contributor trains. An observer reads heads, checkpoints and blobs, and gets no
 * work. An operator has the same rights as an observer, and may compute scores for the coordinator.
 */
export type Role = z.infer<typeof roleSchema>;
