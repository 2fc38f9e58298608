/**
 * Makes simulations faster: replaces the functions of node:crypto that the protocol calls with cheap ones. The cheap
 * functions keep no secrets, but refuse what the real functions refuse: a changed byte, another key, other associated
 * data. No peer of a simulated swarm breaks a cipher, so a simulation finds the same violations. Import this module
 * before any module that uses node:crypto.
 */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';

const RAW_KEY_BYTES = 32;
const TAG_BYTES = 16;
/** The bytes before a raw X25519 key in its DER form. */
const SPKI_PREFIX = Buffer.from('302a300506032b656e032100', 'hex');

/** Position and value of the byte that tells an X25519 key from an Ed25519 key, in the DER form of a private key. */
const ALGORITHM_PLACE = 11;
const X25519 = 0x6e;

const { createPrivateKey } = crypto;

type Bytes = Uint8Array | string;

/** A private or public key. */
class CheapKey {
  readonly publicKey: Buffer;

  constructor(publicKey: Buffer) {
    this.publicKey = publicKey;
  }

  export({ format }: { format: 'jwk' | 'der' }): { x: string } | Buffer {
    if (format === 'jwk') return { x: this.publicKey.toString('base64url') };
    return Buffer.concat([SPKI_PREFIX, this.publicKey]);
  }
}

/** Returns the hash of a list of texts and byte arrays. Different lists have different hashes. */
function digestOf(algorithm: 'sha256' | 'sha512', ...parts: readonly Bytes[]): Buffer {
  const lengths = parts.map(({ length }) => length).join();
  return crypto.hash(
    algorithm,
    Buffer.concat([lengths, ...parts].map((part) => (typeof part === 'string' ? Buffer.from(part) : part))),
    'buffer',
  );
}

const rawKey = (der: Uint8Array): Buffer => Buffer.from(der.subarray(-RAW_KEY_BYTES));

/** An HMAC that is fed with `update`. */
class CheapHmac {
  readonly #parts: Bytes[];

  constructor(key: Uint8Array) {
    this.#parts = [key];
  }

  update(part: Bytes): this {
    this.#parts.push(part);
    return this;
  }

  digest(): Buffer {
    return digestOf('sha256', ...this.#parts);
  }
}

/** A cipher whose ciphertext is the content. The tag depends on key, nonce, associated data and content. */
class CheapCipher {
  readonly #key: Uint8Array;
  readonly #nonce: Uint8Array;
  #associated: Uint8Array = new Uint8Array();
  #content: Uint8Array = new Uint8Array();
  #expected: Uint8Array | null = null;

  constructor(key: Uint8Array, nonce: Uint8Array) {
    this.#key = key;
    this.#nonce = nonce;
  }

  setAAD(associated: Uint8Array): void {
    this.#associated = associated;
  }

  setAuthTag(tag: Uint8Array): void {
    this.#expected = tag;
  }

  update(content: Uint8Array): Uint8Array {
    this.#content = content;
    return content;
  }

  final(): Uint8Array {
    if (this.#expected && !this.getAuthTag().equals(this.#expected)) throw new Error('the tag is wrong');
    return new Uint8Array();
  }

  getAuthTag(): Buffer {
    const digest = digestOf('sha256', this.#key, this.#nonce, this.#associated, this.#content);
    return digest.subarray(0, TAG_BYTES);
  }
}

/**
 * Derives the public key. A signing key gets its real public key, so that peers have the ids that they have with the
 * real functions, and a seed takes the same course.
 */
function privateKeyOf({ key: der }: { key: Uint8Array }): CheapKey {
  const isSealing = der[ALGORITHM_PLACE] === X25519;
  if (isSealing) return new CheapKey(digestOf('sha256', rawKey(der)));
  const { x } = createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs8' }).export({
    format: 'jwk',
  });
  return new CheapKey(Buffer.from(x!, 'base64url'));
}

const replacements = {
  createPrivateKey: privateKeyOf,
  createPublicKey: (input: CheapKey | { key: Uint8Array }) =>
    input instanceof CheapKey ? input : new CheapKey(rawKey(input.key)),
  sign: (_algorithm: null, data: Uint8Array, { publicKey }: CheapKey) => digestOf('sha512', publicKey, data),
  verify: (_algorithm: null, data: Uint8Array, { publicKey }: CheapKey, signature: Uint8Array) =>
    digestOf('sha512', publicKey, data).equals(signature),
  diffieHellman: (keys: { privateKey: CheapKey; publicKey: CheapKey }) => {
    const ends = [keys.privateKey.publicKey, keys.publicKey.publicKey];
    return digestOf('sha256', ...ends.sort(Buffer.compare));
  },
  hkdfSync: (_hash: string, input: Uint8Array, salt: Uint8Array, info: Uint8Array, size: number) =>
    digestOf('sha256', input, salt, info).subarray(0, size),
  createHmac: (_hash: string, key: Uint8Array) => new CheapHmac(key),
  createCipheriv: (_name: string, key: Uint8Array, nonce: Uint8Array) => new CheapCipher(key, nonce),
  createDecipheriv: (_name: string, key: Uint8Array, nonce: Uint8Array) => new CheapCipher(key, nonce),
};

Object.assign(crypto, replacements);
syncBuiltinESMExports();
