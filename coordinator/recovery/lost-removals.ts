import { z } from 'zod';
import { decodeCbor, encodeCbor } from '../../protocol/cbor.ts';
import { signMessage } from '../../protocol/signing.ts';
import type { RunContext } from '../context.ts';
import type { RevokedShared, StoredBan } from '../store/store.ts';

/** Maximum numbers of revoked invites and of bans in a record of removals. */
const INVITES = 1024;
const BANS = 128;
/** Maximum size of a decrypted record of removals, in bytes. */
export const REMOVALS_BYTES = 120 * 1024;
/** Maximum length of the reason of a ban in a record of removals, in characters. */
const REASON_CHARACTERS = 200;
/**
 * Maximum length of each reason in a record of removals that would otherwise exceed REMOVALS_BYTES. With this
 * length, the longest entries fit: 1,024 invites take 59 kB, and 128 bans take 63 kB if each character of a
 * reason takes 3 bytes.
 */
const SHORT_REASON_CHARACTERS = 50;

const time = z.int().nonnegative();
/** The content of a record of removals: the revoked invites and the bans of a job. */
export const removalsContentSchema = z.strictObject({
  invites: z.array(z.strictObject({ id: z.string().max(32), revokedAt: time })).max(INVITES),
  shared: z.strictObject({ revokedAt: time, tokenDigest: z.string().max(64) }).nullable(),
  bans: z
    .array(
      z.strictObject({
        peer: z.string().max(128),
        person: z.string().max(128),
        isForAllJobs: z.boolean(),
        cause: z.enum(['proof', 'strikes', 'operator']),
        reason: z.string().max(REASON_CHARACTERS),
        at: time,
        until: time.nullable(),
      }),
    )
    .max(BANS),
});

type Context = Pick<RunContext, 'job' | 'keys' | 'deps'>;

/**
 * Returns the signed record of all removals of a job, which nodes keep for a coordinator that is restored from an old
 * backup. Only the coordinator can read the content. Returns null if the job has had no removal.
 */
export function signedRemovals({ job, keys, deps }: Context): Uint8Array | null {
  if (keys.removals === 0) return null;
  const { store, clock, network } = deps;
  const revoked = store.invites
    .all(job)
    .flatMap(({ id, revokedAt }) => (revokedAt === null ? [] : { id, revokedAt }));
  const invites = revoked.sort((a, b) => b.revokedAt - a.revokedAt).slice(0, INVITES);
  const shared = store.invites.revokedShared(job);
  const bans = store.bans.applyingTo(job, clock.now(), BANS);
  const sealed = keys.encryptOwn(encodeRemovals({ invites, shared, bans }));
  return signMessage(
    'removals',
    { job, sequence: keys.removals, sealed, issuedAt: clock.now() },
    network.signer,
  );
}

/**
 * Encodes removals for a record. Shortens the reasons of the bans if the result would exceed REMOVALS_BYTES.
 */
export function encodeRemovals({ invites, shared, bans }: Removals): Uint8Array {
  const encoded = (characters: number): Uint8Array => {
    const content: z.infer<typeof removalsContentSchema> = {
      invites: [...invites],
      shared,
      bans: bans.map(({ peer, person, job, cause, reason, at, until }) => ({
        peer,
        person,
        isForAllJobs: job === null,
        cause,
        // Repair the end of the text, because the cut can leave one half of a character that consists of two
        // UTF-16 units.
        reason: reason.slice(0, characters).toWellFormed(),
        at,
        until,
      })),
    };
    return encodeCbor(content);
  };
  const long = encoded(REASON_CHARACTERS);
  return long.byteLength <= REMOVALS_BYTES ? long : encoded(SHORT_REASON_CHARACTERS);
}

/** Removals of one job: revoked invites, the revoked shared invite, and bans. */
interface Removals {
  readonly invites: readonly { readonly id: string; readonly revokedAt: number }[];
  readonly shared: RevokedShared | null;
  readonly bans: readonly Omit<StoredBan, 'id' | 'pardonedAt'>[];
}

/** Removals that a record contains, and that the database of the coordinator lacks. */
export type MissingRemovals = Removals;

/**
 * Returns the removals that a record contains, and that the database lacks. Bans that the operator has lifted
 * are still in the database, so they are not missing.
 * @param sealed the content of a record that this coordinator has signed
 * @throws SwarmError HEAD_UNREADABLE, MESSAGE_* if the coordinator cannot read the record
 */
export function missingRemovals(
  sealed: Uint8Array,
  { job, keys, deps: { store } }: Context,
): MissingRemovals {
  const content = decodeCbor(keys.decryptOwn(sealed), removalsContentSchema, REMOVALS_BYTES);
  const known = new Map(store.invites.all(job).map((invite) => [invite.id, invite]));
  return {
    invites: content.invites.filter(({ id }) => known.get(id)?.revokedAt === null),
    shared: store.invites.revokedShared(job) === null ? content.shared : null,
    bans: content.bans
      .filter((ban) => !store.bans.has(ban))
      .map(({ isForAllJobs, ...ban }) => ({ ...ban, job: isForAllJobs ? null : job })),
  };
}

/**
 * Adds removals to the database. The caller must call this function in a transaction, and must afterwards remove the
 * members to whom the removals apply.
 */
export function restoreRemovals({ invites, shared, bans }: MissingRemovals, { job, deps }: Context): void {
  const { store, log } = deps;
  for (const { id, revokedAt } of invites) store.invites.revoke(job, id, revokedAt);
  if (shared !== null) store.invites.revokeShared(job, shared);
  for (const ban of bans) store.bans.insert(ban);
  log.warn({ job, invites: invites.length, bans: bans.length }, 'removals-restored');
}
