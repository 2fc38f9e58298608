/** Entry point of the worker thread that hashes large blobs. */
import { createHash } from 'node:crypto';
import { serveCalls } from '../common/workers/calls.ts';
import { parentChannel } from '../common/workers/entry.ts';
import { storageError } from './errors.ts';

export type HashMethods = {
  /** Hashes a piece. The reply means that the memory of the piece may be reused. */
  update: { request: Uint8Array; reply: null };
  digest: { request: null; reply: string };
};

const hash = createHash('sha256');

serveCalls<HashMethods>(
  {
    update: (bytes) => {
      hash.update(bytes);
      return null;
    },
    digest: () => hash.digest('hex'),
  },
  {
    channel: parentChannel(),
    failed: (message, options) => storageError('HASH_FAILED', message, {}, options),
  },
);
