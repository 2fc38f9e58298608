/**
 * Uses of a job's key, which all members have: heads are encrypted with it, and a peer proves with it that
 * the peer is a member.
 */
import { createCipheriv, createDecipheriv, createHmac, timingSafeEqual } from 'node:crypto';
import { protocolError } from '../errors.ts';
import { joined, NONCE_BYTES, TAG_BYTES } from './sealing.ts';

/** Size of a job key in bytes. */
export const JOB_KEY_BYTES = 32;
/** Maximum id of a job key. An id takes four bytes. */
export const LARGEST_KEY_ID = 0xffff_ffff;
const ID_BYTES = 4;
/** Number of bytes by which an encrypted head is longer than its content. */
export const HEAD_OVERHEAD_BYTES = ID_BYTES + NONCE_BYTES + TAG_BYTES;

/** A key of a job. The first key has the id 1. Each later key has an id that is one larger. */
export interface JobKey {
  readonly id: number;
  readonly key: Uint8Array;
}

/**
 * Encrypts a signed head with AES-256-GCM. The result consists of the id of the key (4 bytes, big-endian), the nonce
 * (12 bytes), the ciphertext and the tag (16 bytes).
 * @param nonce 12 fresh random bytes
 */
export function encryptHead(
  head: Uint8Array,
  job: string,
  { id, key }: JobKey,
  nonce: Uint8Array,
): Uint8Array {
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(associated(job, id));
  const parts = [cipher.update(head), cipher.final()];
  return joined(idBytes(id), nonce, ...parts, cipher.getAuthTag());
}

/** Returns the id of the key that an encrypted head needs; null if the bytes are too few for an encrypted head. */
export function keyIdOf(bytes: Uint8Array): number | null {
  if (bytes.byteLength < HEAD_OVERHEAD_BYTES) return null;
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
}

/**
 * Decrypts a head.
 * @throws SwarmError HEAD_UNREADABLE if the head has another key or job, or if a byte was changed
 */
export function decryptHead(bytes: Uint8Array, job: string, { id, key }: JobKey): Uint8Array {
  try {
    if (keyIdOf(bytes) !== id) throw new Error('the head names another key');
    const cipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(ID_BYTES, ID_BYTES + NONCE_BYTES));
    cipher.setAAD(associated(job, id));
    cipher.setAuthTag(bytes.subarray(-TAG_BYTES));
    return joined(cipher.update(bytes.subarray(ID_BYTES + NONCE_BYTES, -TAG_BYTES)), cipher.final());
  } catch (cause) {
    const message = `a head cannot be decrypted with key ${id} of the job`;
    throw protocolError('HEAD_UNREADABLE', message, { job, id }, { cause });
  }
}

function associated(job: string, id: number): Uint8Array {
  return joined(Buffer.from(`lora-swarm/2/head\0${job}\0`), idBytes(id));
}

function idBytes(id: number): Uint8Array {
  const bytes = new Uint8Array(ID_BYTES);
  new DataView(bytes.buffer).setUint32(0, id);
  return bytes;
}

/** Proof that the peer that requests a blob has the job key, and is therefore admitted to the job. */
export interface BlobProof {
  /** Id of the key. */
  readonly id: number;
  readonly mac: Uint8Array;
}

/** The two ends of a request for a blob, by peer id. The connection has verified them. */
export interface BlobEnds {
  readonly requester: string;
  readonly holder: string;
}

/** Size of the MAC of a proof in bytes. */
export const PROOF_BYTES = 32;

/**
 * Makes the proof with which `requester` requests blobs of a job from `holder`. No other peer can use the
 * proof.
 */
export function proveMembership(
  job: string,
  { id, key }: JobKey,
  { requester, holder }: BlobEnds,
): BlobProof {
  const mac = createHmac('sha256', key).update(`lora-swarm/2/blob\0${job}\0${requester}\0${holder}`).digest();
  return { id, mac: new Uint8Array(mac) };
}

/** Returns whether a proof was made with this key of the job, by this requester for this holder. */
export function provesMembership(proof: BlobProof, job: string, key: JobKey, ends: BlobEnds): boolean {
  if (proof.id !== key.id || proof.mac.length !== PROOF_BYTES) return false;
  return timingSafeEqual(proof.mac, proveMembership(job, key, ends).mac);
}
