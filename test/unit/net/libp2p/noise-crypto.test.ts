import { randomBytes } from 'node:crypto';
import type { ICryptoInterface } from '@libp2p/noise';
import { defaultCrypto } from '@libp2p/noise/crypto';
import fc from 'fast-check';
import { encode } from 'it-length-prefixed';
import { expect, it } from 'vitest';
import { noiseCrypto } from '../../../../net/libp2p/noise-crypto.ts';

const TAG_BYTES = 16;
const LARGEST = 65_535 - TAG_BYTES;

/** Divides bytes into pieces, as if they arrived from a socket. */
function inPieces(bytes: Uint8Array, cuts: readonly number[]) {
  const list = encode.single(bytes).sublist(0, 0);
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  let at = 0;
  for (const end of ends) {
    if (end > at) list.append(bytes.subarray(at, end));
    at = end;
  }
  return list;
}

const cases = fc.record({
  length: fc.oneof(fc.integer({ min: 0, max: 3000 }), fc.constant(LARGEST)),
  cuts: fc.array(fc.nat(), { maxLength: 3 }),
  ad: fc.uint8Array({ maxLength: 40 }),
});

it('is compatible with the library in both directions, for any pieces', () => {
  const directions: [ICryptoInterface, ICryptoInterface][] = [
    [noiseCrypto, defaultCrypto],
    [defaultCrypto, noiseCrypto],
  ];
  fc.assert(
    fc.property(cases, ({ length, cuts, ad }) => {
      const [key, nonce, bytes] = [randomBytes(32), randomBytes(12), randomBytes(length)];
      for (const [from, to] of directions) {
        const encrypted = from.chaCha20Poly1305Encrypt(inPieces(bytes, cuts), nonce, ad, key).subarray();
        expect(encrypted.length).toBe(length + TAG_BYTES);
        const decrypted = to.chaCha20Poly1305Decrypt(inPieces(encrypted, cuts), nonce, ad, key);
        expect(Buffer.compare(decrypted.subarray(), bytes)).toBe(0);
      }
    }),
    { numRuns: 50 },
  );
});

it('refuses a flipped bit, and another key, nonce or associated data', () => {
  const [key, nonce, ad] = [randomBytes(32), randomBytes(12), randomBytes(8)];
  const encrypted = noiseCrypto
    .chaCha20Poly1305Encrypt(inPieces(randomBytes(5000), [17]), nonce, ad, key)
    .subarray();
  const decrypt = (bytes: Uint8Array, [n, a, k]: Uint8Array[]) =>
    noiseCrypto.chaCha20Poly1305Decrypt(inPieces(bytes, [3000]), n!, a!, k!);
  expect(decrypt(encrypted, [nonce, ad, key]).byteLength).toBe(5000);
  for (const at of [0, 2999, 3000, 4999, 5000, 5000 + TAG_BYTES - 1]) {
    const changed = Uint8Array.from(encrypted);
    changed[at]! ^= 1;
    expect(() => decrypt(changed, [nonce, ad, key])).toThrow();
  }
  for (const wrong of [0, 1, 2]) {
    const used = [nonce, ad, key].map((bytes, index) =>
      index === wrong ? randomBytes(bytes.length) : bytes,
    );
    expect(() => decrypt(encrypted, used)).toThrow();
  }
});
