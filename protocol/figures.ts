/** The signed message with the scores of a merge. */
import { z } from 'zod';
import { bytesSchema, digestSchema, peerIdSchema } from './ids.ts';
import { presetSchema } from './job/manifest.ts';
import { EARLIER_SHARES, ROUND_PEERS } from './limits.ts';

const index = z.int().nonnegative();
const finite = z.number();

/** Share of an update in the merge of an earlier round. */
const earlierShareSchema = z.strictObject({
  /** The round of the merge, and the round for which the update was trained. */
  merge: index,
  round: index,
  share: finite,
  /** Whether the audit of the update had failed. The share then counts as 0. */
  failed: z.boolean(),
});

/**
 * The figures from which the coordinator computed the weights of a merge, and the audits of its updates. A witness that
 * has the base, the data and the payloads can compute them again.
 */
export const figuresSchema = z.strictObject({
  job: digestSchema,
  term: z.int().positive(),
  round: z.int().positive(),
  /** The checkpoint that the merge changed. */
  parent: digestSchema,
  /** Random bytes from which the rows for the scores were chosen; null if the round was not scored. */
  seed: bytesSchema.refine((bytes) => bytes.byteLength === 32, 'must be 32 bytes').nullable(),
  /** End of the round's assigned rows: the first position of its permutation that is in no node's interval. */
  assignedEnd: index,
  /**
   * Version of the rules by which shares and beliefs follow from the other figures (FIGURE_RULES). Absent if a part of
   * the figures was computed by an older version, so that they cannot be checked.
   */
  rules: z.int().positive().optional(),
  updates: z
    .array(
      z.strictObject({
        peer: peerIdSchema,
        /** The round that the update was trained for. */
        round: index,
        /** Digest of the payload. */
        update: digestSchema,
        preset: presetSchema,
        /** The checkpoint that the update was trained from. */
        parent: digestSchema,
        /** The author's assignment: the interval [start, end) and the number of steps. */
        start: index,
        end: index,
        steps: index,
        /** Effect and gain in nats per token; null if the update was not scored. See docs/workflow.md. */
        score: z
          .strictObject({
            effect: finite,
            effectError: finite,
            gain: finite,
            exact: finite.nullable(),
            ownRows: index,
          })
          .nullable(),
        /**
         * Effect of an update that was trained from an older checkpoint, measured at `parent`. It decides only whether
         * the update is harmful. Null for other updates, and if it was not measured. Absent in figures of older versions.
         */
        late: z.strictObject({ effect: finite, effectError: finite }).nullable().optional(),
        share: finite.nullable(),
        belief: finite,
        harmful: z.boolean(),
        /** Size of the payload in bytes. Absent in figures of older versions. */
        size: index.optional(),
        /**
         * The author's shares in earlier merges, newest first. The belief in the author, and the weight that its update
         * has in the medians of the round, were computed from them. Absent in figures of older versions.
         */
        earlier: z.array(earlierShareSchema).max(EARLIER_SHARES).optional(),
        /**
         * Result of the audit; null if there is none. `decidedRound` is the newest round at the time of the
         * result.
         */
        audit: z
          .strictObject({ closeness: finite, balance: finite, passed: z.boolean(), decidedRound: index })
          .nullable(),
      }),
    )
    .max(ROUND_PEERS),
  issuedAt: index,
});
