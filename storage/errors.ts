import { defineErrors } from '../common/errors.ts';

export const storageError = defineErrors({
  BLOB_CORRUPT: 'failed',
  BLOB_DIGEST: 'failed',
  BLOB_MISSING: 'notFound',
  BLOB_SIZE: 'failed',
  BLOB_TRUNCATED: 'failed',
  DAEMON_GONE: 'notRunning',
  DAEMON_NOT_RUNNING: 'notRunning',
  FILE_CHANGED: {
    kind: 'failed',
    next: 'run the same command again while no other program writes to the file',
  },
  HASH_FAILED: { kind: 'failed', next: 'try again' },
  HOME_GONE: {
    kind: 'failed',
    next: 'put the home folder back, or stop the program and start it with --home and the new path of the folder',
  },
  HOME_ROLE: 'conflict',
  IDENTITY_MISSING: {
    kind: 'refused',
    next: 'restore the file "identity" from a backup, or move the database away and start with "--start-anew"; nodes then need new invites',
  },
  STORE_CORRUPT: {
    kind: 'failed',
    next: 'replace the file with a backup, or move it away to start without its contents',
  },
  STORE_MISSING: 'refused',
  STORE_NEWER: { kind: 'failed', next: 'update lora-swarm' },
  STORE_OLDER: {
    kind: 'failed',
    next: 'use the release that wrote the file, or move the file away to start without its contents',
  },
  STORE_REFUSED: { kind: 'refused', next: 'check the disk, and the owner and permissions of the file' },
  TOKEN_INVALID: { kind: 'failed', next: 'delete the file; the next start creates a new token' },
});

/** Codes of errors about one blob: it is missing, damaged, or differs from its digest or size. */
export const BLOB_CODES: ReadonlySet<string> = new Set<keyof typeof storageError.table>([
  'BLOB_CORRUPT',
  'BLOB_DIGEST',
  'BLOB_MISSING',
  'BLOB_SIZE',
  'BLOB_TRUNCATED',
]);
