import { z } from 'zod';
import { membershipProofSchema } from '../../protocol/access/membership-proof.ts';
import { digestSchema } from '../../protocol/ids.ts';
import { BLOB_BYTES, BLOB_RANGE_BYTES } from '../../protocol/limits.ts';
import { transferMs } from '../../protocol/requests/rpc.ts';

/** Maximum size of a request and of an answer header: a few fields of CBOR. */
export const BLOB_HEADER_BYTES = 256;
/** Maximum number of blob streams per connection. Each stream carries at most one range at a time. */
export const BLOB_STREAMS_PER_CONNECTION = 8;
/** Maximum time to transfer a range, 64 s. A transfer that is slower than the lowest supported speed is not worth a stream. */
export const BLOB_RANGE_TIMEOUT_MS = transferMs(BLOB_RANGE_BYTES);

export const blobRequestSchema = z.strictObject({
  digest: digestSchema,
  offset: z.int().nonnegative().max(BLOB_BYTES),
  length: z.int().positive().max(BLOB_RANGE_BYTES),
  /** Shows that the requester is admitted to a job. */
  proof: membershipProofSchema.optional(),
});
export type BlobRequest = z.infer<typeof blobRequestSchema>;

export const blobAnswerSchema = z.strictObject({
  /**
   * `ok`: the bytes follow. `missing`: the holder does not have the blob. `range`: the range ends beyond the end of the
   * blob. `busy`: ask again later.
   */
  status: z.enum(['ok', 'missing', 'range', 'busy']),
  /** Size of the whole blob in bytes; 0 for `missing` and `busy`. */
  total: z.int().nonnegative().max(BLOB_BYTES),
});
export type BlobAnswer = z.infer<typeof blobAnswerSchema>;
