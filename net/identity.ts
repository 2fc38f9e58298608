import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys';
import type { Ed25519PrivateKey } from '@libp2p/interface';
import { isSystemError, type SwarmError } from '../common/errors.ts';
import { syncFolder, writeError } from '../common/files/durable.ts';
import { linkOrCopy, nullIfMissing, restrictToOwner } from '../common/files/file-system.ts';
import { type Signer, signerFromSeed } from '../protocol/signing.ts';
import { netError } from './errors.ts';

/** The identity of a daemon: an Ed25519 key that signs messages and authenticates connections. */
export interface Identity {
  readonly signer: Signer;
  /** The key of `signer` in the form that libp2p needs. Only net/ uses it. */
  readonly privateKey: Ed25519PrivateKey;
}

const IDENTITY_FILE = 'identity';
const KEY_MODE = 0o600;
const HOME_MODE = 0o700;
/** Size of an Ed25519 seed. libp2p stores a private key as the seed, followed by the public key. */
const SEED_BYTES = 32;

/**
 * Reads the key in `<home>/identity` (libp2p's private key protobuf), or creates one on first use. Never overwrites an
 * existing file, because a coordinator that loses its key loses its jobs.
 * @throws SwarmError IDENTITY_CORRUPT, WRITE_FAILED, STORE_FULL
 */
export async function loadIdentity(home: string): Promise<Identity> {
  const path = join(home, IDENTITY_FILE);
  const bytes = (await readIfPresent(path)) ?? (await create(home, path));
  return identityOf(bytes, path);
}

async function readIfPresent(path: string): Promise<Uint8Array | null> {
  const bytes = await readFile(path).catch(nullIfMissing);
  if (bytes !== null) await restrictToOwner(path);
  return bytes;
}

async function create(home: string, path: string): Promise<Uint8Array> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    await mkdir(home, { recursive: true, mode: HOME_MODE });
    const bytes = privateKeyToProtobuf(await generateKeyPair('Ed25519'));
    const file = await open(temporary, 'wx', KEY_MODE);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    // Unlike a rename, a link fails if another process has created the file first. In that case this process uses the
    // key of the other process. On a file system without hard links, the file is copied. A process that reads the copy
    // before it is complete fails with IDENTITY_CORRUPT, and works when it is started again.
    await linkOrCopy(temporary, path).catch((error: unknown) => {
      if (!isSystemError(error, 'EEXIST')) throw error;
    });
    await syncFolder(home);
    return await readFile(path);
  } catch (cause) {
    throw writeError(cause, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

function identityOf(bytes: Uint8Array, path: string): Identity {
  const corrupt = (cause?: unknown): SwarmError =>
    netError(
      'IDENTITY_CORRUPT',
      `${path} does not hold an Ed25519 key`,
      { path, bytes: bytes.byteLength },
      { cause },
    );
  let privateKey: ReturnType<typeof privateKeyFromProtobuf>;
  try {
    privateKey = privateKeyFromProtobuf(bytes);
  } catch (cause) {
    throw corrupt(cause);
  }
  if (privateKey.type !== 'Ed25519') throw corrupt();
  const signer = signerFromSeed(privateKey.raw.subarray(0, SEED_BYTES));
  // The stored public key must match the seed, or peers would see two identities.
  if (signer.peerId !== privateKey.publicKey.toString()) throw corrupt();
  return { signer, privateKey };
}
