import { defineErrors } from '../common/errors.ts';

export const storageError = defineErrors({
  STORE_REFUSED: 'refused',
  STORE_CORRUPT: 'failed',
  BLOB_CORRUPT: 'failed',
  BLOB_DIGEST: 'failed',
  BLOB_MISSING: 'notFound',
  BLOB_SIZE: 'failed',
  BLOB_TRUNCATED: 'failed',
  FILE_CHANGED: 'failed',
  HASH_FAILED: 'failed',
  STORE_NEWER: 'failed',
});
