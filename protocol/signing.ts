import { createPrivateKey, sign as edSign, verify as edVerify, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import { countItems, decodeCbor, encodeCbor, sha256 } from './cbor.ts';
import { protocolError } from './errors.ts';
import { bytesSchema, peerIdOf, peerIdSchema, publicKeyOf } from './ids.ts';
import { type MessageKind, type Messages, messageBytes, messageSchemas, UPDATE_ITEMS } from './messages.ts';

/** Signs with a libp2p key (Ed25519). */
export interface Signer {
  readonly peerId: string;
  /** Returns the Ed25519 signature of the bytes. */
  sign(bytes: Uint8Array): Uint8Array;
}

/** A verified message, its author, and the digest of its body (the identity of manifests and checkpoints). */
export interface Verified<K extends MessageKind> {
  readonly author: string;
  readonly message: Messages[K];
  readonly digest: string;
}

const envelopeSchema = z.strictObject({
  kind: z.string().max(32),
  author: peerIdSchema,
  body: bytesSchema,
  signature: bytesSchema.refine((s) => s.length === 64, 'must be 64 bytes'),
});
/** Space for the fields around the body: kind, author, signature and CBOR framing. */
const ENVELOPE_OVERHEAD_BYTES = 512;
/** Maximum number of values in an envelope. It has nine, including itself and its keys. */
const ENVELOPE_ITEMS = 16;

/** The bytes before a raw 32-byte Ed25519 seed in its PKCS#8 form (RFC 8410). */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

/** Creates a signer from a raw Ed25519 seed (32 bytes). */
export function signerFromSeed(seed: Uint8Array): Signer {
  const key: KeyObject = createPrivateKey({
    key: Buffer.concat([PKCS8_PREFIX, seed]),
    format: 'der',
    type: 'pkcs8',
  });
  const jwk = key.export({ format: 'jwk' });
  const peerId = peerIdOf(Buffer.from(jwk.x!, 'base64url'));
  return { peerId, sign: (bytes) => edSign(null, bytes, key) };
}

/**
 * Returns the bytes to sign. They include the kind, so that a message cannot be passed off as a message of
 * another kind.
 */
function signedBytes(kind: MessageKind, body: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`lora-swarm/1/${kind}\0`), body]);
}

/**
 * Encodes and signs a message. Checks its schema first, so that we never send a message that we would refuse ourselves.
 */
export function signMessage<K extends MessageKind>(
  kind: K,
  message: Messages[K],
  signer: Signer,
): Uint8Array {
  const parsed = messageSchemas[kind].parse(message);
  const body = encodeCbor(parsed);
  const signature = signer.sign(signedBytes(kind, body));
  return encodeCbor({ kind, author: signer.peerId, body, signature: new Uint8Array(signature) });
}

/**
 * Verifies and decodes a signed message. Checks its size, envelope, kind, signature and schema. No other
 * function decodes signed messages, so that no message is used unverified.
 * @throws SwarmError MESSAGE_TOO_LARGE, MESSAGE_MALFORMED, MESSAGE_INVALID, MESSAGE_KIND, SIGNATURE_INVALID
 */
export function verifyMessage<K extends MessageKind>(kind: K, bytes: Uint8Array): Verified<K> {
  const maxBytes = messageBytes[kind] + ENVELOPE_OVERHEAD_BYTES;
  // Count the values first, because many tiny values take long to decode.
  if (bytes.byteLength <= maxBytes && countItems(bytes, ENVELOPE_ITEMS) > ENVELOPE_ITEMS) {
    throw protocolError('MESSAGE_MALFORMED', `a signed message has at most ${ENVELOPE_ITEMS} values`);
  }
  const envelope = decodeCbor(bytes, envelopeSchema, maxBytes);
  if (envelope.kind !== kind) {
    throw protocolError('MESSAGE_KIND', `expected a signed ${kind}, found "${envelope.kind.slice(0, 32)}"`, {
      expected: kind,
      found: envelope.kind,
    });
  }
  const valid = edVerify(
    null,
    signedBytes(kind, envelope.body),
    publicKeyOf(envelope.author),
    envelope.signature,
  );
  if (!valid) {
    throw protocolError('SIGNATURE_INVALID', `${envelope.author} did not make the signature of a ${kind}`, {
      kind,
      author: envelope.author,
    });
  }
  const maxItems = kind === 'update' ? UPDATE_ITEMS : Number.POSITIVE_INFINITY;
  const message = decodeCbor(
    envelope.body,
    messageSchemas[kind],
    messageBytes[kind],
    maxItems,
  ) as Messages[K];
  // Without this check, another coordinator could sign the same manifest, and its job would have the same
  // digest.
  const signer = kind === 'manifest' ? (message as Messages['manifest']).coordinator : undefined;
  if (signer !== undefined && signer !== envelope.author) {
    const text = `the manifest names the coordinator ${signer}, but ${envelope.author} signed it`;
    throw protocolError('SIGNATURE_INVALID', text, { kind, author: envelope.author, coordinator: signer });
  }
  return { author: envelope.author, message, digest: sha256(envelope.body) };
}
