import { createHash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';

/** null after each piece: it is hashed and its memory may be reused. The digest at the end. */
export type HashAnswer = string | null;

/** Hashes the pieces in order and acknowledges each. The message null asks for the digest. */
const hash = createHash('sha256');

parentPort?.on('message', (bytes: Uint8Array | null) => {
  if (bytes !== null) hash.update(bytes);
  parentPort?.postMessage((bytes === null ? hash.digest('hex') : null) satisfies HashAnswer);
});
