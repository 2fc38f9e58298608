import { multiaddr } from '@multiformats/multiaddr';
import { z } from 'zod';
import type { SwarmError } from '../../common/errors.ts';
import { decodeCbor, encodeCbor } from '../cbor.ts';
import { protocolError } from '../errors.ts';
import { digestSchema } from '../ids.ts';

/** Maximum number of addresses in one invite. More addresses would make the line too long to paste conveniently. */
export const INVITE_ADDRESSES = 8;
/** Maximum length of an invite. Eight addresses of 256 bytes, a job and a token stay below this length in base64. */
export const INVITE_CHARACTERS = 4096;
/** Marks a line as an invite of version 1. */
const PREFIX = 'swarm1';

/** A multiaddr in visible ASCII. It ends in a peer id, so that no other peer is mistaken for the coordinator. */
export const PEER_ADDRESS = /^(\/[\x21-\x7e]+)?\/p2p\/(12D3KooW[1-9A-HJ-NP-Za-km-z]{44})$/;

const inviteSchema = z.strictObject({
  /** Multiaddrs of the coordinator, each ending in /p2p/<peer id>. */
  addresses: z
    .array(z.string().max(256).regex(PEER_ADDRESS, 'must be a multiaddr that ends in /p2p/PEER'))
    .min(1)
    .max(INVITE_ADDRESSES)
    .refine((addresses) => addresses.every(isMultiaddr), 'must be multiaddrs')
    .refine(
      (addresses) => new Set(addresses.map((address) => PEER_ADDRESS.exec(address)?.[2])).size === 1,
      'must all belong to one coordinator',
    ),
  /** Digest of the job. If null, the contributor chooses a job of the coordinator. */
  job: digestSchema.nullable(),
  /** Token that a job with admission "invite" requires; null for an open job. */
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

/** Returns whether a text begins like an invite. Commands that take an invite or a multiaddr use this test. */
export function looksLikeInvite(text: string): boolean {
  return text.startsWith(PREFIX);
}

/** @throws SwarmError INVITE_INVALID */
export function decodeInvite(text: string): Invite {
  const invalid = (reason: string, cause?: unknown): SwarmError =>
    protocolError('INVITE_INVALID', `not a valid invite: ${reason}`, { reason }, { cause });
  if (!looksLikeInvite(text)) throw invalid(`it does not begin with "${PREFIX}"`);
  if (text.length > INVITE_CHARACTERS)
    throw invalid(`its ${text.length} characters exceed the limit of ${INVITE_CHARACTERS}`);
  const encoded = text.slice(PREFIX.length);
  const bytes = Buffer.from(encoded, 'base64url');
  // Node skips characters that are not base64url, so compare the text with the re-encoded bytes.
  if (bytes.toString('base64url') !== encoded) throw invalid('a part of it is missing or changed');
  try {
    return decodeCbor(new Uint8Array(bytes), inviteSchema, INVITE_CHARACTERS);
  } catch (cause) {
    throw invalid('a part of it is missing or changed', cause);
  }
}

/**
 * Where to find a job: an invite, or the addresses of its coordinator, with the job and the token if they are known.
 */
export interface JobTarget {
  /** Text of an invite. It gives the addresses, the token, and perhaps the job. */
  readonly invite?: string;
  /** Multiaddrs of the coordinator, each ending in /p2p/<peer id>. @default the invite's addresses */
  readonly addresses?: readonly string[];
  /** Digest of the job; null leaves the choice to the coordinator. @default the invite's job, else null */
  readonly job?: string | null;
  /** Token, for a job with admission "invite". @default the invite's token, else null */
  readonly token?: string | null;
}

/**
 * Reads the invite of a target. The target's other fields take precedence over the fields of the invite. Leaves out the
 * invite's token if an address belongs to a peer other than the invite's coordinator, because that peer could use the
 * token.
 * @throws SwarmError INVITE_INVALID
 */
export function resolveTarget({ invite, addresses, job, token }: JobTarget): Invite {
  const from = invite === undefined ? { addresses: [], job: null, token: null } : decodeInvite(invite);
  const isOfInvite = addresses?.every((address) => peerOf(address) === peerOf(from.addresses[0])) ?? true;
  return {
    addresses: [...(addresses ?? from.addresses)],
    job: job ?? from.job,
    token: token ?? (isOfInvite ? from.token : null),
  };
}

function isMultiaddr(address: string): boolean {
  try {
    multiaddr(address);
    return true;
  } catch {
    // The error describes an address, but the user knows only the invite.
    return false;
  }
}

function peerOf(address: string | undefined): string | null {
  return PEER_ADDRESS.exec(address ?? '')?.[2] ?? null;
}
