import { createHash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';

/** Hashes the bytes it is sent, in order, and says so after each; `null` asks for the digest. */
const hash = createHash('sha256');

parentPort?.on('message', (bytes: Uint8Array | null) => {
  if (bytes !== null) hash.update(bytes);
  parentPort?.postMessage(bytes === null ? hash.digest('hex') : null);
});
