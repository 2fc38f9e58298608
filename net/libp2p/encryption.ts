/**
 * Noise without a copy of each arriving message. Written for `@libp2p/noise` 17.0.3, whose
 * `EncryptedMessageStream.decrypt` copies the pieces of a message into one array (`chunk.subarray`). Only ciphers that
 * decrypt in place need that copy. If the library passed the pieces to ciphers that accept a `Uint8ArrayList`, this
 * file would not be needed. Nothing changes on the wire.
 */

import type { ConnectionEncrypter } from '@libp2p/interface';
import { type NoiseComponents, noise } from '@libp2p/noise';
import { noiseCrypto } from './noise-crypto.ts';

type Bytes = Parameters<typeof noiseCrypto.chaCha20Poly1305Decrypt>[0];

/** The members of an encrypted connection that its published type leaves out. */
interface NoiseConnection {
  readonly handshake: { decrypt(message: Bytes): Bytes };
  decrypt(message: Bytes): Bytes;
}

/** Maximum size of a noise message, and the size of its tag (noise specification, 3). */
const MESSAGE_BYTES = 65_535;
const TAG_BYTES = 16;

/** Creates the noise connection encrypter. */
export function encryption(): (components: NoiseComponents) => ConnectionEncrypter {
  return (components) => {
    const library = noise({ crypto: noiseCrypto })(components);
    return {
      protocol: library.protocol,
      secureInbound: async (connection, options) =>
        withoutCopies(await library.secureInbound(connection, options)),
      secureOutbound: async (connection, options) =>
        withoutCopies(await library.secureOutbound(connection, options)),
    };
  };
}

/**
 * Makes a connection decrypt messages directly from the pieces in which they arrived. Copying the pieces took a third
 * of all memory that a transfer allocated.
 */
function withoutCopies<T extends { connection: unknown }>(secured: T): T {
  const connection = secured.connection as NoiseConnection;
  const decrypt = connection.decrypt.bind(connection);
  connection.decrypt = (message) => {
    const { byteLength } = message;
    // Anything that is not exactly one message is left to the library.
    if (byteLength < TAG_BYTES || byteLength > MESSAGE_BYTES) return decrypt(message);
    return connection.handshake.decrypt(message);
  };
  return secured;
}
