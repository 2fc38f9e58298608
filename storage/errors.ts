import { defineErrors } from '../common/errors.ts';

export const storageError = defineErrors({
  DAEMON_NOT_RUNNING: 'notRunning',
  HOME_ROLE: 'conflict',
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
