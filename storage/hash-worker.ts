import { createHash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';

/** `null`: one more piece is in the hash, and its memory free again; or the digest. */
export type HashAnswer = string | null;

/** Hashes the pieces it is sent, in order, and says so after each; `null` asks for the digest. */
const hash = createHash('sha256');

parentPort?.on('message', (bytes: Uint8Array | null) => {
  if (bytes !== null) hash.update(bytes);
  parentPort?.postMessage((bytes === null ? hash.digest('hex') : null) satisfies HashAnswer);
});
