import { z } from 'zod';
import { decodeCbor, encodeCbor } from '../../protocol/cbor.ts';
import { signMessage } from '../../protocol/signing.ts';
import type { RunContext } from '../context.ts';
import type { RevokedShared, StoredBan } from '../store/store.ts';

/**
 * Maximum numbers of revoked invites and of bans in a record. With these numbers, the record stays below its maximum
 * size. The oldest entries are left out.
 */
const INVITES = 1024;
const BANS = 128;
/** Maximum size of a decrypted record in bytes. */
export const REMOVALS_BYTES = 120 * 1024;
/** Maximum length of the reason of a ban in a record, in characters. */
const REASON_CHARACTERS = 200;

const time = z.int().nonnegative();
/** The content of a record: the revoked invites and the bans of a job. */
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
  const bans = store.bans.inForce(clock.now(), BANS).filter((ban) => ban.job === null || ban.job === job);
  const content: z.infer<typeof removalsContentSchema> = {
    invites: revoked.sort((a, b) => b.revokedAt - a.revokedAt).slice(0, INVITES),
    shared: store.invites.revokedShared(job),
    bans: bans.map(({ peer, person, job: from, cause, reason, at, until }) => ({
      peer,
      person,
      isForAllJobs: from === null,
      cause,
      reason: reason.slice(0, REASON_CHARACTERS),
      at,
      until,
    })),
  };
  const sealed = keys.encryptOwn(encodeCbor(content));
  return signMessage(
    'removals',
    { job, sequence: keys.removals, sealed, issuedAt: clock.now() },
    network.signer,
  );
}

/** Removals of a record that the database of the coordinator lacks. */
export interface MissingRemovals {
  readonly invites: readonly { readonly id: string; readonly revokedAt: number }[];
  readonly shared: RevokedShared | null;
  readonly bans: readonly Omit<StoredBan, 'id' | 'pardonedAt'>[];
}

/**
 * Returns the removals of a record that the database lacks. Bans that the operator has lifted are in the database, so
 * they are not missing.
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
      .filter((ban) => !store.bans.of(ban).some(({ at, peer }) => at === ban.at && peer === ban.peer))
      .map(({ isForAllJobs, ...ban }) => ({ ...ban, job: isForAllJobs ? null : job })),
  };
}

/**
 * Adds removals to the database. The caller must call this function in a transaction, and remove the members afterwards.
 */
export function restoreRemovals({ invites, shared, bans }: MissingRemovals, { job, deps }: Context): void {
  const { store, log } = deps;
  for (const { id, revokedAt } of invites) store.invites.revoke(job, id, revokedAt);
  if (shared !== null) store.invites.revokeShared(job, shared);
  for (const ban of bans) store.bans.insert(ban);
  log.warn({ job, invites: invites.length, bans: bans.length }, 'removals-restored');
}
