import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isSwarmError } from '../../../../common/errors.ts';
import {
  decryptHead,
  encryptHead,
  HEAD_OVERHEAD_BYTES,
  keyIdOf,
} from '../../../../protocol/access/job-key.ts';
import { SEAL_BYTES, type SealContext, SealingKey, seal } from '../../../../protocol/access/sealing.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';

const JOB = 'ab'.repeat(32);
const CONTEXT: SealContext = { kind: 'update', job: JOB, author: signerOf(1).peerId };
const KEY = new SealingKey(new Uint8Array(32).fill(1));
const bytes = fc.uint8Array({ maxLength: 300 });
const secret = fc.uint8Array({ minLength: 32, maxLength: 32 });
const runs = { numRuns: 200 };

/** Vectors that scripts/reference/make_sealing.py made with another implementation. */
const vectors = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../../fixtures/sealing.json'), 'utf8'),
) as {
  sealed: (SealContext & Record<'privateKey' | 'publicKey' | 'content' | 'sealed', string>)[];
  heads: (Record<'job' | 'key' | 'nonce' | 'content' | 'encrypted', string> & { id: number })[];
};
const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));

/** Returns the bytes with one bit changed. */
function flipped(message: Uint8Array, bit: number): Uint8Array {
  const changed = Uint8Array.from(message);
  changed[bit >> 3]! ^= 1 << (bit & 7);
  return changed;
}

describe('a sealed message', () => {
  it('of another implementation opens', () => {
    for (const { privateKey, publicKey, content, sealed, ...context } of vectors.sealed) {
      const key = new SealingKey(hex(privateKey));
      expect(Buffer.from(key.publicKey).toString('hex')).toBe(publicKey);
      expect(key.open(hex(sealed), context)).toEqual(hex(content));
    }
  });

  it('opens with the private key, and is longer than its content by a fixed number of bytes', () => {
    fc.assert(
      fc.property(bytes, secret, secret, (content, privateKey, ephemeral) => {
        const key = new SealingKey(privateKey);
        const sealed = seal(content, key.publicKey, CONTEXT, ephemeral);
        expect(sealed.length).toBe(content.length + SEAL_BYTES);
        expect(key.open(sealed, CONTEXT)).toEqual(Uint8Array.from(content));
      }),
      runs,
    );
  });

  it('does not open after any change of a bit', () => {
    const sealed = seal(Buffer.from('content'), KEY.publicKey, CONTEXT, new Uint8Array(32).fill(2));
    for (let bit = 0; bit < 8 * sealed.length; bit++) {
      // X25519 ignores the highest bit of a public key, but the key is also a part of what the secret is derived from.
      expect(() => KEY.open(flipped(sealed, bit), CONTEXT), `bit ${bit}`).toThrow(withCode('SEAL_INVALID'));
    }
  });

  it('does not open for another job, kind or author, or with another key', () => {
    const sealed = seal(Buffer.from('content'), KEY.publicKey, CONTEXT, new Uint8Array(32).fill(2));
    const others: SealContext[] = [
      { ...CONTEXT, job: 'cd'.repeat(32) },
      { ...CONTEXT, kind: 'heartbeat' },
      { ...CONTEXT, author: signerOf(2).peerId },
    ];
    for (const other of others) expect(() => KEY.open(sealed, other)).toThrow(withCode('SEAL_INVALID'));
    const other = new SealingKey(new Uint8Array(32).fill(9));
    expect(() => other.open(sealed, CONTEXT)).toThrow(withCode('SEAL_INVALID'));
  });

  it('of arbitrary bytes, also with ephemeral keys of low order, fails with an error of its own', () => {
    const lowOrder = fc.constantFrom(
      new Uint8Array(32),
      Uint8Array.from({ length: 32 }, (_, i) => (i ? 0 : 1)),
    );
    const message = fc
      .tuple(fc.oneof(lowOrder, secret, bytes), bytes)
      .map(([first, rest]) => Buffer.concat([first, rest]));
    fc.assert(
      fc.property(message, (sealed) => {
        expect(() => KEY.open(sealed, CONTEXT)).toThrow(withCode('SEAL_INVALID'));
      }),
      { numRuns: 2_000 },
    );
  });

  it('is not made for a public key of low order', () => {
    expect(() => seal(Uint8Array.of(1), new Uint8Array(32), CONTEXT, new Uint8Array(32).fill(2))).toThrow(
      withCode('SEALING_KEY_INVALID'),
    );
  });
});

describe('an encrypted head', () => {
  const key = { id: 7, key: new Uint8Array(32).fill(3) };
  const nonce = new Uint8Array(12).fill(4);

  it('of another implementation is read, and is written with the same bytes', () => {
    for (const { job, id, nonce, content, encrypted, ...rest } of vectors.heads) {
      const key = { id, key: hex(rest.key) };
      expect(keyIdOf(hex(encrypted))).toBe(id);
      expect(decryptHead(hex(encrypted), job, key)).toEqual(hex(content));
      expect(encryptHead(hex(content), job, key, hex(nonce))).toEqual(hex(encrypted));
    }
  });

  it('is read with its key, and not after any change of a bit, for another job or with another key', () => {
    fc.assert(
      fc.property(bytes, (content) => {
        const encrypted = encryptHead(content, JOB, key, nonce);
        expect(encrypted.length).toBe(content.length + HEAD_OVERHEAD_BYTES);
        expect(decryptHead(encrypted, JOB, key)).toEqual(Uint8Array.from(content));
        const digest = createHash('sha256').update(content).digest();
        const bit = digest.readUInt32BE(0) % (8 * encrypted.length);
        expect(() => decryptHead(flipped(encrypted, bit), JOB, key)).toThrow(withCode('HEAD_UNREADABLE'));
        expect(() => decryptHead(encrypted, 'cd'.repeat(32), key)).toThrow(withCode('HEAD_UNREADABLE'));
        const others = [
          { id: 8, key: key.key },
          { id: 7, key: new Uint8Array(32).fill(4) },
        ];
        for (const other of others)
          expect(() => decryptHead(encrypted, JOB, other)).toThrow(withCode('HEAD_UNREADABLE'));
      }),
      runs,
    );
  });

  it('of arbitrary bytes fails with an error of its own', () => {
    fc.assert(
      fc.property(bytes, (message) => {
        try {
          decryptHead(message, JOB, key);
        } catch (error) {
          if (!isSwarmError(error, 'HEAD_UNREADABLE')) throw error;
          return;
        }
        throw new Error('it was read');
      }),
      { numRuns: 2_000 },
    );
  });
});
