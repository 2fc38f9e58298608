import { createPublicKey, type KeyObject } from 'node:crypto';
import { base58btc } from 'multiformats/bases/base58';
import { z } from 'zod';
import type { SwarmError } from '../common/errors.ts';
import { protocolError } from './errors.ts';

/** Bytes, in shared memory or not. The type of `z.instanceof(Uint8Array)` would exclude shared memory. */
export const bytesSchema = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'must be bytes');

/** SHA-256, lower-case hex, 64 characters. */
export const digestSchema = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hex characters');

/** The name of a job. It appears in paths and on terminals, so it contains only characters that are harmless there. */
export const nameSchema = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]{0,63}$/,
    'must be 1 to 64 characters from a-z 0-9 . _ - and begin with a letter or digit',
  );

/** The word that means a base without an adapter, where a command or a request expects the name of an adapter. */
export const BASE_ALIAS = 'base';

/** The name of a new adapter, or of a new job or sweep, which becomes the name of its adapter. */
export const adapterNameSchema = nameSchema.refine(
  (name) => name !== BASE_ALIAS,
  `must not be "${BASE_ALIAS}", because this word means a base without an adapter`,
);

/** A text that a node reports about itself: its name, its program, its engine. */
export const labelSchema = z.string().max(64).describe('a text of up to 64 characters');

/** The name that a node gives itself. Names of other nodes are sanitised where they are shown. */
export const nodeNameSchema = labelSchema.refine(
  (name) => !/[\p{Cc}\p{Cf}]/u.test(name),
  'must have no control or invisible characters',
);

/** A version of this program, short enough that a label can hold the program's name and the version. */
export const versionSchema = z.string().max(48).describe('a text of up to 48 characters');

/** A libp2p peer id of an Ed25519 key in base58btc: 52 characters, beginning with 12D3KooW. */
export const peerIdSchema = z
  .string()
  .regex(/^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/, 'must be an Ed25519 peer id');

// A peer id of an Ed25519 key is an identity multihash (0x00, length 0x24) of the key's protobuf
// (field 1 type = 1 Ed25519, field 2 = 32 key bytes): libp2p peer-id specification.
const PEER_ID_PREFIX = Uint8Array.of(0x00, 0x24, 0x08, 0x01, 0x12, 0x20);
// SubjectPublicKeyInfo of Ed25519: RFC 8410 section 4.
const SPKI_PREFIX = Uint8Array.from(Buffer.from('302a300506032b6570032100', 'hex'));

/** Returns the peer id of a raw Ed25519 public key (32 bytes). */
export function peerIdOf(publicKey: Uint8Array): string {
  return base58btc.baseEncode(Buffer.concat([PEER_ID_PREFIX, publicKey]));
}

/** Converts a multihash to its peer id. Returns null if the bytes are not the multihash of an Ed25519 key. */
export function peerIdOfMultihash(bytes: Uint8Array): string | null {
  if (bytes.length !== PEER_ID_PREFIX.length + 32) return null;
  if (!PEER_ID_PREFIX.every((byte, i) => bytes[i] === byte)) return null;
  return base58btc.baseEncode(bytes);
}

/** Returns the public key inside an Ed25519 peer id. @throws SwarmError PEER_ID_INVALID */
export function publicKeyOf(peerId: string): KeyObject {
  const invalid = (): SwarmError =>
    protocolError('PEER_ID_INVALID', `"${peerId.slice(0, 64)}" is not the peer id of an Ed25519 key`, {
      peerId,
    });
  if (!peerIdSchema.safeParse(peerId).success) throw invalid();
  const bytes = base58btc.baseDecode(peerId);
  if (bytes.length !== PEER_ID_PREFIX.length + 32) throw invalid();
  if (!PEER_ID_PREFIX.every((byte, i) => bytes[i] === byte)) throw invalid();
  const der = Buffer.concat([SPKI_PREFIX, bytes.subarray(PEER_ID_PREFIX.length)]);
  return createPublicKey({ key: der, format: 'der', type: 'spki' });
}

/** Shortens a peer id for display to its last six characters, because all peer ids begin with the same characters. */
export function shortPeer(peerId: string): string {
  return peerId.length > 14 ? `…${peerId.slice(-6)}` : peerId;
}

/** Random id of a process. A node sends 8 random bytes in hex. */
export const runIdSchema = z.string().min(1).max(32);
