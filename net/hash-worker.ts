import { createHash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';

/** A piece given back, or the digest. */
export type HashAnswer = Uint8Array<ArrayBuffer> | string;

/** Hashes the pieces it is sent, in order, and sends each back; `null` asks for the digest. */
const hash = createHash('sha256');

parentPort?.on('message', (bytes: Uint8Array<ArrayBuffer> | null) => {
  if (bytes === null) {
    parentPort?.postMessage(hash.digest('hex') satisfies HashAnswer);
    return;
  }
  hash.update(bytes);
  parentPort?.postMessage(bytes satisfies HashAnswer, [bytes.buffer]);
});
