import { z } from 'zod';
import type { SwarmError } from '../common/errors.ts';
import { decodeCbor, encodeCbor } from './cbor.ts';
import { protocolError } from './errors.ts';
import { digestSchema } from './ids.ts';

/** Addresses in one invite; more would only make the line longer. */
export const INVITE_ADDRESSES = 8;
/** Greatest length of an invite: 8 addresses of 256 bytes, job and token in base64 stay below. */
export const INVITE_CHARACTERS = 4096;
/** Marks a line as an invite of version 1. */
const PREFIX = 'swarm1';

/** A multiaddr in visible ASCII that ends in a peer id, so that no other peer is mistaken for the coordinator. */
const PEER_ADDRESS = /^(\/[\x21-\x7e]+)?\/p2p\/(12D3KooW[1-9A-HJ-NP-Za-km-z]{44})$/;

const inviteSchema = z.strictObject({
  /** Multiaddrs of the coordinator, each ending in /p2p/<peer id>. */
  addresses: z
    .array(z.string().max(256).regex(PEER_ADDRESS, 'must be a multiaddr that ends in /p2p/PEER'))
    .min(1)
    .max(INVITE_ADDRESSES)
    .refine(
      (addresses) => new Set(addresses.map((address) => PEER_ADDRESS.exec(address)?.[2])).size === 1,
      'must all belong to one coordinator',
    ),
  /** null means the coordinator's only job, or the job that the contributor names. */
  job: digestSchema.nullable(),
  /** Required by jobs with admission "invite"; null for open jobs. */
  token: z.string().min(1).max(128).nullable(),
});
/** The content of an invite. */
export type Invite = z.infer<typeof inviteSchema>;

/**
 * Encodes an invite as one line: `swarm1` and base64url of canonical CBOR. Keeps the first {@link INVITE_ADDRESSES}
 * addresses.
 */
export function encodeInvite(invite: Invite): string {
  const parsed = inviteSchema.parse({ ...invite, addresses: invite.addresses.slice(0, INVITE_ADDRESSES) });
  return PREFIX + Buffer.from(encodeCbor(parsed)).toString('base64url');
}

/** Distinguishes an invite from a multiaddr, for commands that take both. */
export function looksLikeInvite(text: string): boolean {
  return text.startsWith(PREFIX);
}

/** @throws SwarmError INVITE_INVALID */
export function decodeInvite(text: string): Invite {
  const invalid = (reason: string, cause?: unknown): SwarmError =>
    protocolError('INVITE_INVALID', `not a valid invite: ${reason}`, { reason }, { cause });
  if (!looksLikeInvite(text)) throw invalid(`it does not begin with "${PREFIX}"`);
  if (text.length > INVITE_CHARACTERS) throw invalid(`${text.length} characters`);
  const encoded = text.slice(PREFIX.length);
  const bytes = Buffer.from(encoded, 'base64url');
  // Node skips characters that are not base64url, so compare with the re-encoded bytes.
  if (bytes.toString('base64url') !== encoded) throw invalid('not base64url');
  try {
    return decodeCbor(new Uint8Array(bytes), inviteSchema, INVITE_CHARACTERS);
  } catch (cause) {
    throw invalid('damaged', cause);
  }
}

/** Where a job is: an invite, or addresses of its coordinator and what else is known. */
export interface JobTarget {
  /** Text of an invite. It gives the addresses, the token, and perhaps the job. */
  readonly invite?: string;
  /** Multiaddrs of the coordinator, each ending in /p2p/<peer id>. @default those of the invite */
  readonly addresses?: readonly string[];
  /** Digest of the job. @default that of the invite; without one null: the coordinator's choice */
  readonly job?: string | null;
  /** Token that the admission of the job asks for. @default that of the invite, else null */
  readonly token?: string | null;
}

/** Reads the invite of a target. Values that are given beside it win. @throws SwarmError INVITE_INVALID */
export function resolveTarget({ invite, addresses, job, token }: JobTarget): Invite {
  const from = invite === undefined ? { addresses: [], job: null, token: null } : decodeInvite(invite);
  return {
    addresses: [...(addresses ?? from.addresses)],
    job: job ?? from.job,
    token: token ?? from.token,
  };
}
