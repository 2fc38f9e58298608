import { createHash, randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { startHash } from '../../../storage/running-hash.ts';

const SMALL = 1024;
const LARGE = 64 * 1024 * 1024;

it.each([SMALL, LARGE])('returns the pieces of a blob of %i bytes and computes its digest', async (size) => {
  const pieces = [1, 200, 4096].map((length) => randomBytes(length));
  const hash = startHash(size);
  const back = await Promise.all(pieces.map((piece) => new Promise((done) => hash.update(piece, done))));
  expect(back).toEqual(pieces);
  expect(await hash.digest()).toBe(createHash('sha256').update(Buffer.concat(pieces)).digest('hex'));
});

it('returns all pieces and rejects the digest if its thread dies', async () => {
  const hash = startHash(LARGE);
  const update = (piece: Uint8Array) => new Promise((done) => hash.update(piece, done));
  // This value is not bytes, so the hash throws.
  const poison = 17 as unknown as Uint8Array;
  await Promise.all([update(randomBytes(10)), update(poison), update(randomBytes(10))]);
  await update(randomBytes(10));
  await expect(hash.digest()).rejects.toMatchObject({ code: 'HASH_FAILED' });
});
