import { z } from 'zod';
import { membershipProofSchema } from '../access/membership-proof.ts';
import { digestSchema, bytesSchema as envelope } from '../ids.ts';
import { PROOFS_PER_ANSWER, RESIDUAL_BYTES, ROUND_PEERS } from '../limits.ts';
import { rollBacksSchema } from '../version-manifest.ts';

/** The request `record` for a checkpoint and the proofs of its contributors. */
export const recordRequestSchema = z.strictObject({
  job: digestSchema,
  /** Number of checkpoints before the wanted one. */
  ordinal: z.int().nonnegative(),
  /** Number of contributors before the first one in the answer. */
  first: z.int().nonnegative().max(ROUND_PEERS),
  /** Asks a coordinator for the roll-backs of the job too. Coordinators of earlier releases refuse this field. */
  rollBacks: z.literal(true).optional(),
  /** Shows a node that the caller has the job key. A node asks for it if not everyone may join the job. */
  proof: membershipProofSchema.optional(),
});

/** The answer to the request `record`. */
export const recordAnswerSchema = z.strictObject({
  /** Signed checkpoint; null if the job has no checkpoint of this number. */
  checkpoint: envelope.nullable(),
  /**
   * Number of the checkpoint in the answer. Present only in the answer of a node. If the node lacks the wanted
   * checkpoint, it answers with the next later one that it keeps.
   */
  ordinal: z.int().nonnegative().optional(),
  /** Blob of the residual after the checkpoint's delta; null if it is zero or was deleted. */
  residual: z.strictObject({ digest: digestSchema, size: z.int().positive().max(RESIDUAL_BYTES) }).nullable(),
  /**
   * For each contributor of the checkpoint, from number `first` on: the proof of its update. Null if the
   * answering peer has neither the signed update (`evidence`) nor its receipt.
   */
  proofs: z
    .array(z.strictObject({ evidence: envelope.nullable(), receipt: envelope.nullable() }).nullable())
    .max(PROOFS_PER_ANSWER),
  /** The newest roll-backs of the job. Present only if a coordinator was asked for them. */
  rollBacks: rollBacksSchema.optional(),
});
