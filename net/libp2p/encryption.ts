import type { ConnectionEncrypter } from '@libp2p/interface';
import { type NoiseComponents, noise } from '@libp2p/noise';
import { noiseCrypto } from './noise-crypto.ts';

type Bytes = Parameters<typeof noiseCrypto.chaCha20Poly1305Decrypt>[0];

/** What a connection encrypted by Noise is at run time; its published type does not say so, and nothing else relies on it. */
interface NoiseConnection {
  readonly handshake: { decrypt(message: Bytes): Bytes };
  decrypt(message: Bytes): Bytes;
}

const MESSAGE_BYTES = 65_535;
const TAG_BYTES = 16;

/** Noise, as the library has it on the wire, with less work on the way. */
export function encryption(): (components: NoiseComponents) => ConnectionEncrypter {
  return (components) => {
    const library = noise({ crypto: noiseCrypto })(components);
    return {
      protocol: library.protocol,
      secureInbound: async (connection, options) => eased(await library.secureInbound(connection, options)),
      secureOutbound: async (connection, options) => eased(await library.secureOutbound(connection, options)),
    };
  };
}

/**
 * The library copies each arriving message into one piece before it decrypts it, for ciphers that write over their input.
 * Ours takes the pieces as they came, and the copies were a third of all memory that a transfer went through.
 */
function eased<T extends { connection: unknown }>(secured: T): T {
  const connection = secured.connection as NoiseConnection;
  const decrypt = connection.decrypt.bind(connection);
  connection.decrypt = (message) => {
    const { byteLength } = message;
    // Anything but one whole message is the library's to judge.
    if (byteLength < TAG_BYTES || byteLength > MESSAGE_BYTES) return decrypt(message);
    return connection.handshake.decrypt(message);
  };
  return secured;
}
