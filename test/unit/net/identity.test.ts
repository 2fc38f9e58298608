import { verify } from 'node:crypto';
import { chmod, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { generateKeyPair, privateKeyToProtobuf } from '@libp2p/crypto/keys';
import { describe, expect, it } from 'vitest';
import { loadIdentity } from '../../../net/identity.ts';
import { peerIdSchema, publicKeyOf } from '../../../protocol/ids.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { expectMode } from '../../utils/source/platform.ts';

describe('loadIdentity', () => {
  it('creates a key that only its owner can read, and loads it again', async () => {
    const home = join(await temporaryFolder(), 'home');
    const first = await loadIdentity(home);
    const again = await loadIdentity(home);
    expect(peerIdSchema.parse(first.signer.peerId)).toBe(again.signer.peerId);
    await expectMode(home, 0o700);
    await expectMode(join(home, 'identity'), 0o600);
    expect(await readdir(home)).toEqual(['identity']);
  });

  it('signs with the key of the libp2p peer id', async () => {
    const { signer, privateKey } = await loadIdentity(await temporaryFolder());
    expect(signer.peerId).toBe(privateKey.publicKey.toString());
    const bytes = Buffer.from('text');
    expect(verify(null, bytes, publicKeyOf(signer.peerId), signer.sign(bytes))).toBe(true);
    expect(await privateKey.publicKey.verify(bytes, signer.sign(bytes))).toBe(true);
  });

  it('gives processes that start at the same time one identity', async () => {
    const home = await temporaryFolder();
    const all = await Promise.all(Array.from({ length: 8 }, () => loadIdentity(home)));
    expect(new Set(all.map(({ signer }) => signer.peerId)).size).toBe(1);
    expect(await readdir(home)).toEqual(['identity']);
  });

  it('restores the mode of a copied key file', async () => {
    const home = await temporaryFolder();
    await loadIdentity(home);
    await chmod(join(home, 'identity'), 0o644);
    await loadIdentity(home);
    await expectMode(join(home, 'identity'), 0o600);
  });

  it('refuses and never overwrites a file without a valid key', async () => {
    const home = await temporaryFolder();
    const path = join(home, 'identity');
    await loadIdentity(home);
    const good = await readFile(path);
    const swapped = Buffer.from(good);
    swapped[40] = swapped[40]! ^ 1;
    const otherType = privateKeyToProtobuf(await generateKeyPair('secp256k1'));
    for (const bytes of [Buffer.alloc(0), Buffer.from('garbage'), good.subarray(0, 20), swapped, otherType]) {
      await writeFile(path, bytes);
      await expect(loadIdentity(home)).rejects.toMatchObject({ code: 'IDENTITY_CORRUPT' });
      expect(Buffer.compare(await readFile(path), bytes)).toBe(0);
    }
  });
});
