import { encryptHead, JOB_KEY_BYTES } from '../../../protocol/access/job-key.ts';
import type { JobKeysMessage } from '../../../protocol/access/job-keys-message.ts';
import { SEALING_KEY_BYTES, SealingKey } from '../../../protocol/access/sealing.ts';

/** The private key with which the coordinators of tests open sealed messages. */
export const testSealing = new SealingKey(new Uint8Array(SEALING_KEY_BYTES).fill(5));

/** Keys as a coordinator sends them. Keys with different ids are different. */
export function testKeys(id = 1): JobKeysMessage {
  return { seal: testSealing.publicKey, id, key: new Uint8Array(JOB_KEY_BYTES).fill(id) };
}

let nonces = 0;

/** Encrypts a signed head as a coordinator does. */
export function encryptedHead(head: Uint8Array, job: string, id = 1): Uint8Array {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32BE(++nonces);
  return encryptHead(head, job, testKeys(id), nonce);
}
