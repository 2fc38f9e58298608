import { z } from 'zod';
import { EVIDENCE_BYTES } from '../../protocol/evidence.ts';
import { bytesSchema, digestSchema } from '../../protocol/ids.ts';
import { CONTROL_MESSAGE_BYTES, ROUND_PEERS, RPC_MESSAGE_BYTES } from '../../protocol/limits.ts';
import { NULL_FIGURES } from '../record.ts';

/** Maximum number of heads that a bundle has for one checkpoint. A witness may have heard several for each round. */
export const BUNDLED_HEADS = 64;
/** Maximum number of bytes of a checkpoint's block: the checkpoint, heads, scores, and proofs of its contributors. */
export const RECORD_BYTES =
  (BUNDLED_HEADS + 2) * CONTROL_MESSAGE_BYTES +
  (NULL_FIGURES + 1) * RPC_MESSAGE_BYTES +
  3 * EVIDENCE_BYTES * ROUND_PEERS;
/** Maximum number of bytes of the root block: enough for 900,000 checkpoints. */
export const ROOT_BYTES = 64 * 1024 * 1024;

/** Kinds of blobs in a bundle. */
export const BUNDLED_USES = ['adapter', 'delta', 'residual', 'payload'] as const;

/** A blob that the coordinator still needed, but could not read or repair when it wrote the bundle. */
export interface MissingBlob {
  /** What the checks of the checkpoint need the blob for. */
  readonly use: (typeof BUNDLED_USES)[number];
  /** Round of the checkpoint. */
  readonly round: number;
  /** Digest of the blob. */
  readonly digest: string;
}

const missingBlob = z.strictObject({
  use: z.enum(BUNDLED_USES),
  round: z.int().nonnegative(),
  digest: digestSchema,
});

/** The root block of a bundle. */
export const rootSchema = z.strictObject({
  /** Version of the format. */
  bundle: z.literal(1),
  /** Signed manifest of the job. */
  manifest: bytesSchema,
  /** Signed changes of the job's settings, oldest first. */
  settings: z.array(bytesSchema),
  /** Digests of the blocks of all checkpoints, oldest first. */
  checkpoints: z.array(digestSchema),
  missing: z.array(missingBlob).optional(),
});

/** The block of one checkpoint. Its fields are those of `CheckpointRecord`. */
export const recordSchema = z.strictObject({
  checkpoint: bytesSchema,
  residual: digestSchema.nullable(),
  proofs: z
    .array(z.strictObject({ evidence: bytesSchema.nullable(), receipt: bytesSchema.nullable() }).nullable())
    .max(ROUND_PEERS),
  figures: bytesSchema.nullable(),
  nullFigures: z.array(bytesSchema).max(NULL_FIGURES).optional(),
  heads: z.array(bytesSchema).max(BUNDLED_HEADS),
});
