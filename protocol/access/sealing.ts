/**
 * Encryption to the coordinator of a job. This is HPKE in its base mode (RFC 9180), for a single message, with the
 * suite DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM. The comments use the RFC's names of its functions.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
  type KeyObject,
} from 'node:crypto';
import { protocolError } from '../errors.ts';

/** Size of a private key, of a public key, and of the random secret from which `seal` makes its ephemeral key, in bytes. */
export const SEALING_KEY_BYTES = 32;
/** Size of the tag of AES-GCM in bytes. */
export const TAG_BYTES = 16;
/** Number of bytes by which a sealed message is longer than its content: the ephemeral public key and the tag. */
export const SEAL_BYTES = SEALING_KEY_BYTES + TAG_BYTES;
/** Size of the nonce of AES-GCM in bytes. */
export const NONCE_BYTES = 12;

/** Facts that a sealed message is bound to. With other facts, the message cannot be decrypted. */
export interface SealContext {
  readonly kind: 'update' | 'heartbeat';
  /** Digest of the job. */
  readonly job: string;
  /** Peer id of the peer that publishes the message. */
  readonly author: string;
}

// Identifiers of the suite, from the registries of RFC 9180.
const DHKEM_X25519 = Buffer.from('KEM\x00\x20', 'latin1');
const SUITE = Buffer.from('HPKE\x00\x20\x00\x01\x00\x02', 'latin1');
const VERSION = Buffer.from('HPKE-v1');
const EMPTY = Buffer.alloc(0);
const HASH_BYTES = 32;
/** Size of a key of AES-256 in bytes. */
const KEY_BYTES = 32;
/** Parts of the key schedule that are the same for all messages, because there is no pre-shared key. */
const BASE_MODE = Uint8Array.of(0);
const PSK_ID_HASH = extract(labeled(SUITE, 'psk_id_hash', EMPTY));
const NO_PSK = labeled(SUITE, 'secret', EMPTY);

// The bytes before a raw key in its DER form (RFC 8410).
const PKCS8_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex');
const SPKI_PREFIX = Buffer.from('302a300506032b656e032100', 'hex');

/** The private key of a job. It decrypts the messages that nodes seal. */
export class SealingKey {
  /** The raw public key. Anyone may know it. */
  readonly publicKey: Uint8Array;
  readonly #key: KeyObject;

  /** @param bytes the raw private key: 32 random bytes */
  constructor(bytes: Uint8Array) {
    this.#key = privateKeyOf(bytes);
    this.publicKey = rawPublicKey(this.#key);
  }

  /**
   * Decrypts a sealed message.
   * @throws SwarmError SEAL_INVALID if the message is damaged, or was sealed with another public key or
   *   another context
   */
  open(sealed: Uint8Array, context: SealContext): Uint8Array {
    if (sealed.byteLength < SEAL_BYTES) throw invalid(context);
    const ephemeral = sealed.subarray(0, SEALING_KEY_BYTES);
    const ciphertext = sealed.subarray(SEALING_KEY_BYTES, -TAG_BYTES);
    try {
      const shared = diffieHellman({ privateKey: this.#key, publicKey: publicKeyOf(ephemeral) });
      const { key, nonce } = schedule(shared, ephemeral, this.publicKey, context);
      const cipher = createDecipheriv('aes-256-gcm', key, nonce);
      cipher.setAuthTag(sealed.subarray(-TAG_BYTES));
      return joined(cipher.update(ciphertext), cipher.final());
    } catch (cause) {
      // OpenSSL also fails for an ephemeral key of low order, which would give a shared secret of zeros.
      throw invalid(context, cause);
    }
  }
}

/**
 * Encrypts a message so that only the holder of the private key can read it.
 * @param recipient raw public key of the job
 * @param ephemeral 32 fresh random bytes, which must not be used again
 * @throws SwarmError SEALING_KEY_INVALID if the public key cannot be used
 */
export function seal(
  content: Uint8Array,
  recipient: Uint8Array,
  context: SealContext,
  ephemeral: Uint8Array,
): Uint8Array {
  const privateKey = privateKeyOf(ephemeral);
  const encapsulated = rawPublicKey(privateKey);
  let shared: Uint8Array;
  try {
    shared = diffieHellman({ privateKey, publicKey: publicKeyOf(recipient) });
  } catch (cause) {
    const { job } = context;
    throw protocolError('SEALING_KEY_INVALID', 'the public key of the job is not valid', { job }, { cause });
  }
  const { key, nonce } = schedule(shared, encapsulated, recipient, context);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  return joined(encapsulated, cipher.update(content), cipher.final(), cipher.getAuthTag());
}

/** ExtractAndExpand and KeySchedule of RFC 9180, for the base mode and the first message. */
function schedule(
  shared: Uint8Array,
  encapsulated: Uint8Array,
  recipient: Uint8Array,
  { kind, job, author }: SealContext,
): { key: Uint8Array; nonce: Uint8Array } {
  const ends = Buffer.concat([encapsulated, recipient]);
  const eae = labeled(DHKEM_X25519, 'eae_prk', shared);
  const secret = derive(eae, EMPTY, expansion(DHKEM_X25519, 'shared_secret', ends, HASH_BYTES), HASH_BYTES);
  const info = Buffer.from(`lora-swarm/2/sealed\0${kind}\0${job}\0${author}`);
  const keyContext = Buffer.concat([BASE_MODE, PSK_ID_HASH, extract(labeled(SUITE, 'info_hash', info))]);
  const from = (label: string, size: number): Uint8Array =>
    derive(NO_PSK, secret, expansion(SUITE, label, keyContext, size), size);
  return { key: from('key', KEY_BYTES), nonce: from('base_nonce', NONCE_BYTES) };
}

/**
 * HKDF: Extract, then Expand to `size` bytes. With an `input` from `labeled`, Extract is LabeledExtract of
 * RFC 9180.
 */
function derive(input: Uint8Array, salt: Uint8Array, info: Uint8Array, size: number): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', input, salt, info, size));
}

/** Extract of HKDF without a salt. */
function extract(input: Uint8Array): Buffer {
  return createHmac('sha256', EMPTY).update(input).digest();
}

/** Returns the bytes that LabeledExtract of the RFC passes to Extract. */
function labeled(suite: Uint8Array, label: string, input: Uint8Array): Buffer {
  return Buffer.concat([VERSION, suite, Buffer.from(label), input]);
}

/** Returns the `info` that LabeledExpand of the RFC passes to Expand. @param size bytes of Expand's output, up to 255 */
function expansion(suite: Uint8Array, label: string, info: Uint8Array, size: number): Buffer {
  return Buffer.concat([Uint8Array.of(0, size), labeled(suite, label, info)]);
}

function privateKeyOf(raw: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, raw]), format: 'der', type: 'pkcs8' });
}

function publicKeyOf(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI_PREFIX, raw]), format: 'der', type: 'spki' });
}

function rawPublicKey(key: KeyObject): Uint8Array {
  const der = createPublicKey(key).export({ format: 'der', type: 'spki' });
  return new Uint8Array(der.subarray(SPKI_PREFIX.length));
}

/**
 * Concatenates parts into an array with its own memory. `Buffer.concat` would put a short result into memory that other
 * buffers use too.
 */
export function joined(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}

function invalid({ kind, job, author }: SealContext, cause?: unknown): Error {
  const message = `a sealed ${kind} of ${author} cannot be decrypted with the key of the job`;
  return protocolError('SEAL_INVALID', message, { kind, job, author }, { cause });
}
