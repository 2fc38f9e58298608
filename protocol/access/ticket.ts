import { z } from 'zod';
import type { SwarmError } from '../../common/errors.ts';
import { decodeCbor, encodeCbor } from '../cbor.ts';
import { protocolError } from '../errors.ts';
import { bytesSchema, digestSchema } from '../ids.ts';
import { messageBytes } from '../messages.ts';
import { INVITE_ADDRESSES, PEER_ADDRESS } from './invite.ts';
import { JOB_KEY_BYTES } from './job-key.ts';

/** Maximum length of a ticket. Eight addresses of 256 bytes, two digests and a key stay below this length in base64. */
export const TICKET_CHARACTERS = 4096;
/** Marks a line as a ticket of version 1. */
const PREFIX = 'swarmv1';
/** Maximum number of bytes that a signed manifest has in addition to its body. */
const ENVELOPE_BYTES = 512;

const ticketSchema = z.strictObject({
  /** Multiaddrs of the machine that shares the version, each ending in /p2p/<peer id>. */
  addresses: z
    .array(z.string().max(256).regex(PEER_ADDRESS, 'must be a multiaddr that ends in /p2p/PEER'))
    .min(1)
    .max(INVITE_ADDRESSES),
  /** Digest of the version. */
  version: digestSchema,
  /** The signed manifest of the version, as a blob. */
  envelope: z.strictObject({
    digest: digestSchema,
    size: z
      .int()
      .positive()
      .max(messageBytes['version-manifest'] + ENVELOPE_BYTES),
  }),
  /** Secret key of this ticket. A peer that requests a blob must prove that it has the key. */
  key: bytesSchema.refine((bytes) => bytes.byteLength === JOB_KEY_BYTES, `must be ${JOB_KEY_BYTES} bytes`),
});
/** The content of a ticket: everything that a machine needs to fetch one version of an adapter from another machine. */
export type Ticket = z.infer<typeof ticketSchema>;

/**
 * Encodes a ticket as one line: `swarmv1` and base64url of canonical CBOR. The line contains only the first
 * INVITE_ADDRESSES addresses.
 */
export function encodeTicket(ticket: Ticket): string {
  const parsed = ticketSchema.parse({ ...ticket, addresses: ticket.addresses.slice(0, INVITE_ADDRESSES) });
  return PREFIX + Buffer.from(encodeCbor(parsed)).toString('base64url');
}

/** Returns whether a text begins like a ticket. Otherwise, the text is the name of a repository. */
export function looksLikeTicket(text: string): boolean {
  return text.startsWith(PREFIX);
}

/** @throws SwarmError TICKET_INVALID */
export function decodeTicket(text: string): Ticket {
  const invalid = (reason: string, cause?: unknown): SwarmError =>
    protocolError('TICKET_INVALID', `not a valid ticket: ${reason}`, { reason }, { cause });
  if (!looksLikeTicket(text)) throw invalid(`it does not begin with "${PREFIX}"`);
  if (text.length > TICKET_CHARACTERS)
    throw invalid(`its ${text.length} characters exceed the limit of ${TICKET_CHARACTERS}`);
  const encoded = text.slice(PREFIX.length);
  const bytes = Buffer.from(encoded, 'base64url');
  // Node skips characters that are not base64url, so compare the text with the re-encoded bytes.
  if (bytes.toString('base64url') !== encoded) throw invalid('it is not base64url');
  try {
    return decodeCbor(new Uint8Array(bytes), ticketSchema, TICKET_CHARACTERS);
  } catch (cause) {
    throw invalid('it is damaged', cause);
  }
}
