/**
 * Encrypts and decrypts noise messages with cached key objects. Written for `@libp2p/noise` 17.0.3, which
 * passes the key to Node as bytes, so that Node converts it to a key object for each message. If the
 * library's cipher state created a key object once per key, this file would not be needed.
 */

import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from 'node:crypto';
import type { ICryptoInterface } from '@libp2p/noise';
import { defaultCrypto } from '@libp2p/noise/crypto';

const CIPHER = 'chacha20-poly1305';
const TAG = { authTagLength: 16 };
/**
 * Minimum size, in bytes, of messages that are encrypted with Node's crypto. For smaller messages, the library's
 * WebAssembly is used, because it starts faster. The library has the same threshold.
 */
const LARGE_BYTES = 1200;

/**
 * The library's cryptography, except that bytes are converted to a key object once per key instead of once per message.
 * In Node the conversion takes about a third as long as encrypting a full message.
 */
export const noiseCrypto: ICryptoInterface = {
  ...defaultCrypto,

  chaCha20Poly1305Encrypt(plaintext, nonce, ad, k) {
    if (plaintext.byteLength < LARGE_BYTES || plaintext instanceof Uint8Array)
      return defaultCrypto.chaCha20Poly1305Encrypt(plaintext, nonce, ad, k);
    const cipher = createCipheriv(CIPHER, keyOf(k), nonce, TAG);
    cipher.setAAD(ad, { plaintextLength: plaintext.byteLength });
    const encrypted = plaintext.sublist(0, 0);
    for (const part of plaintext) encrypted.append(cipher.update(part));
    // A stream cipher keeps no bytes back, so this call only computes the tag.
    cipher.final();
    encrypted.append(cipher.getAuthTag());
    return encrypted;
  },

  /** @throws if the tag does not match */
  chaCha20Poly1305Decrypt(ciphertext, nonce, ad, k, dst) {
    if (ciphertext.byteLength < LARGE_BYTES || ciphertext instanceof Uint8Array)
      return defaultCrypto.chaCha20Poly1305Decrypt(ciphertext, nonce, ad, k, dst);
    const length = ciphertext.byteLength - TAG.authTagLength;
    const decipher = createDecipheriv(CIPHER, keyOf(k), nonce, TAG);
    decipher.setAAD(ad, { plaintextLength: length });
    decipher.setAuthTag(ciphertext.subarray(length));
    const decrypted = ciphertext.sublist(0, 0);
    for (const part of ciphertext.sublist(0, length)) decrypted.append(decipher.update(part));
    decipher.final();
    return decrypted;
  },
};

/**
 * Key objects, by the array that holds the key in the cipher state of a connection. The array lives as long as the
 * connection, and its bytes never change.
 */
const keys = new WeakMap<Uint8Array, KeyObject>();

function keyOf(bytes: Uint8Array): KeyObject {
  const known = keys.get(bytes);
  if (known !== undefined) return known;
  const key = createSecretKey(bytes);
  keys.set(bytes, key);
  return key;
}
