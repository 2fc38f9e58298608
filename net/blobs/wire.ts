import { z } from 'zod';
import { digestSchema } from '../../protocol/ids.ts';
import { BLOB_BYTES, BLOB_RANGE_BYTES } from '../../protocol/limits.ts';

/** Requests and answer headers are a few fields of CBOR. */
export const BLOB_HEADER_BYTES = 256;
/** Streams that one connection may have open for blobs. Each has at most one range in flight. */
export const BLOB_STREAMS_PER_CONNECTION = 8;
/**
 * A range must be complete within this time however steadily its frames drip: 1 MiB in 64 s is 16 KiB/s, the least
 * that is worth keeping a stream for.
 */
export const BLOB_RANGE_TIMEOUT_MS = 64_000;

export const blobRequestSchema = z.strictObject({
  digest: digestSchema,
  offset: z.int().nonnegative().max(BLOB_BYTES),
  length: z.int().positive().max(BLOB_RANGE_BYTES),
});
export type BlobRequest = z.infer<typeof blobRequestSchema>;

export const blobAnswerSchema = z.strictObject({
  /** `ok`: the bytes follow; `missing`: not here; `range`: beyond the end; `busy`: ask again later. */
  status: z.enum(['ok', 'missing', 'range', 'busy']),
  /** Size of the whole blob in bytes; 0 unless `ok` or `range`. */
  total: z.int().nonnegative().max(BLOB_BYTES),
});
export type BlobAnswer = z.infer<typeof blobAnswerSchema>;
