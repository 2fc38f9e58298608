import { randomBytes } from 'node:crypto';
import { sha256 } from '../../protocol/cbor.ts';
import type { Role } from '../../protocol/requests/member-status.ts';
import type { RunContext } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import type { RevokedShared, StoredInvite, StoredPeer } from '../store/store.ts';
import { checkAdmission } from './admission.ts';
import { type Grant, grantOf, revoked } from './invite-grant.ts';
import { personOf } from './person.ts';

/** Maximum number of personal invites of a job, including revoked invites, because all of them are in memory. */
export const INVITES_PER_JOB = 4096;

/** Name of a job's shared invite in commands and answers. No personal invite can have this name. */
export const SHARED = 'shared';

/** Size of a personal invite's token in bytes. Tokens of 32 random bytes cannot be guessed. */
const TOKEN_BYTES = 32;

/** Size of a personal invite's id in bytes. The id is short because people type it. It is not secret. */
const ID_BYTES = 6;

/** Minimum length of a prefix of an id that selects an invite. */
const MIN_PREFIX_LENGTH = 4;

/**
 * Maximum number of peers that may read the job without being members, because they showed the shared invite in a
 * request for the manifest. Above this number, the coordinator forgets the peer whose request is oldest. This peer then
 * has to show the invite again.
 */
const SHARED_READERS = 4096;

/** Settings of a new personal invite. */
export interface InviteRequest {
  readonly name: string | null;
  readonly role: Role;
  /** Number of machines that may join with the invite. */
  readonly uses: number;
  /** Time after which no further machine may join; null if the invite never expires. */
  readonly expiresAt: number | null;
}

/**
 * The personal invites of a job and its shared invite. A peer that joins with a personal invite is bound to this
 * invite. The peer may then join again any number of times, and all its joins together count as one use of the invite.
 */
export class Invites {
  readonly #context: RunContext;
  readonly #byId = new Map<string, StoredInvite>();
  /** Ids of the invites, by the digest of the token. */
  readonly #byToken = new Map<string, string>();
  /** Peers that are bound to each invite, with the time of the binding. */
  readonly #bound = new Map<string, Map<string, number>>();
  /** Id of the invite that each peer was bound to last. */
  readonly #newest = new Map<string, string>();
  readonly #sharedReaders = new Set<string>();
  #revokedShared: RevokedShared | null;

  constructor(deps: { context: RunContext }) {
    this.#context = deps.context;
    const { job } = this.#context;
    const { invites } = this.#context.deps.store;
    for (const invite of invites.all(job)) this.#remember(invite);
    for (const { invite, peer, boundAt } of invites.bindings(job)) this.#noteBinding(invite, peer, boundAt);
    this.#revokedShared = invites.revokedShared(job);
  }

  /** Returns the personal invites, oldest first. */
  all(): StoredInvite[] {
    return [...this.#byId.values()];
  }

  /** Returns the peers that are bound to an invite, and the time of each binding. */
  boundTo(id: string): ReadonlyMap<string, number> {
    return this.#bound.get(id) ?? new Map();
  }

  /** Time when the shared invite was revoked; null if it has not been revoked. */
  get sharedRevokedAt(): number | null {
    return this.#revokedShared?.revokedAt ?? null;
  }

  /** Token of the shared invite; null if the job needs no token, or if the shared invite is revoked. */
  get sharedToken(): string | null {
    return this.#revokedShared === null ? this.#context.stored.token : null;
  }

  /**
   * Creates a personal invite. Only this call returns the token, because the store has only the token's digest.
   * @throws SwarmError INVITE_EXISTS, TOO_MANY_INVITES
   */
  create({ name, role, uses, expiresAt }: InviteRequest): { invite: StoredInvite; token: string } {
    const { job, deps } = this.#context;
    if (name !== null && (name === SHARED || this.#named(name) !== null)) {
      throw coordinatorError('INVITE_EXISTS', `the job already has an invite named "${name}"`, { name });
    }
    const limit = INVITES_PER_JOB;
    if (this.#byId.size >= limit) {
      throw coordinatorError('TOO_MANY_INVITES', `the job already has ${limit} personal invites`, { limit });
    }
    const token = randomBytes(TOKEN_BYTES).toString('base64url');
    const invite: StoredInvite = {
      id: randomBytes(ID_BYTES).toString('hex'),
      name,
      role,
      uses,
      createdAt: deps.clock.now(),
      expiresAt,
      revokedAt: null,
      tokenDigest: digestOf(token),
    };
    deps.store.transaction(() => deps.store.invites.insert(job, invite));
    this.#remember(invite);
    deps.log.info({ invite: invite.id, name, role, uses, expiresAt }, 'invite-created');
    return { invite, token };
  }

  /**
   * Finds an invite by its name, its id or the beginning of its id. A revoked invite is not found by its name.
   * @returns null for the shared invite
   * @throws SwarmError INVITE_UNKNOWN, INVITE_AMBIGUOUS
   */
  find(text: string): StoredInvite | null {
    if (text === SHARED) return null;
    const exact = this.#named(text) ?? this.#byId.get(text);
    if (exact) return exact;
    const matching =
      text.length >= MIN_PREFIX_LENGTH ? this.all().filter(({ id }) => id.startsWith(text)) : [];
    if (matching.length === 1) return matching[0]!;
    if (matching.length === 0) {
      throw coordinatorError('INVITE_UNKNOWN', `the job has no invite "${text}"`, { invite: text });
    }
    const ids = matching.map(({ id }) => id);
    const message = `the ids of ${ids.length} invites begin with "${text}"`;
    throw coordinatorError('INVITE_AMBIGUOUS', message, { ids });
  }

  /** Checks that an invite can be revoked. @throws SwarmError INVITE_WITHOUT_TOKEN */
  checkRevocable(id: string | null): void {
    const { token, name, admission } = this.#context.stored;
    if (id !== null || token !== null || this.#revokedShared !== null) return;
    const message = `job ${name} has admission "${admission.kind}", so its shared invite has no token to revoke`;
    throw coordinatorError('INVITE_WITHOUT_TOKEN', message, { admission: admission.kind });
  }

  /**
   * Permanently revokes an invite. The caller has checked that the invite can be revoked, calls this method in a
   * transaction, and then removes the members that joined with the invite.
   * @param id null for the shared invite
   * @returns false if the invite is unknown or already revoked
   */
  revoke(id: string | null): boolean {
    const { job, stored, deps } = this.#context;
    const { invites } = deps.store;
    const revokedAt = deps.clock.now();
    if (id === null) {
      if (this.#revokedShared !== null) return false;
      const revoked = { revokedAt, tokenDigest: digestOf(stored.token!) };
      invites.revokeShared(job, revoked);
      this.#revokedShared = revoked;
      this.#sharedReaders.clear();
    } else {
      const invite = this.#byId.get(id);
      if (!invite || invite.revokedAt !== null) return false;
      invites.revoke(job, id, revokedAt);
      this.#byId.set(id, { ...invite, revokedAt });
    }
    deps.log.info({ invite: id ?? SHARED }, 'invite-revoked');
    return true;
  }

  /** Reads the revocations again, after another part of the coordinator has added some to the database. */
  readRevocations(): void {
    const { job, deps } = this.#context;
    for (const invite of deps.store.invites.all(job)) this.#byId.set(invite.id, invite);
    this.#revokedShared = deps.store.invites.revokedShared(job);
    if (this.#revokedShared !== null) this.#sharedReaders.clear();
  }

  /** Returns whether the invite with which a member joined is revoked. */
  isRevoked({ invite }: Pick<StoredPeer, 'invite'>): boolean {
    if (invite === null) return this.#revokedShared !== null;
    return (this.#byId.get(invite)?.revokedAt ?? null) !== null;
  }

  /**
   * Checks whether a peer may join, and returns the invite and role with which it joins. Changes nothing.
   * @param token token that the peer shows; null if it shows none
   * @param member the peer's entry in the list of members; null if the peer is not a member
   * @throws SwarmError NOT_ADMITTED, INVITE_REVOKED, INVITE_EXPIRED, INVITE_USED
   */
  check(peer: string, token: string | null, member: StoredPeer | null): Grant {
    const { admission } = this.#context.stored;
    const digest = token === null ? null : digestOf(token);
    const shown = digest === null ? null : this.#invite(this.#byToken.get(digest));
    if (shown) return this.#grant(shown, peer);
    if (member) return member;
    // A peer that has used a personal invite still joins with this invite, even if it now shows another token or none.
    const bound = this.#invite(this.#newest.get(peer));
    if (bound) return this.#grant(bound, peer);
    if (digest !== null && digest === this.#revokedShared?.tokenDigest) throw revoked(SHARED);
    checkAdmission(admission, this.sharedToken, { peer, invite: token });
    return { invite: null, role: 'contributor' };
  }

  /**
   * Binds a peer to the invite of its grant. The caller must have checked the grant, and must call this
   * method in a transaction.
   */
  bind(peer: string, { invite }: Grant): void {
    if (invite === null || this.#newest.get(peer) === invite) return;
    const { job, deps } = this.#context;
    const boundAt = deps.clock.now();
    deps.store.invites.bind(job, { invite, peer, boundAt });
    this.#noteBinding(invite, peer, boundAt);
  }

  /**
   * Admits a peer that only reads the job without joining it, for example to fetch a checkpoint. If the peer
   * shows a personal invite, the peer is bound to this invite, as a peer that joins would be.
   * @throws the errors of `check`
   */
  admitReader(peer: string, token: string | null, member: StoredPeer | null): void {
    const grant = this.check(peer, token, member);
    if (grant.invite !== null) this.#context.deps.store.transaction(() => this.bind(peer, grant));
    else if (member === null) {
      this.#sharedReaders.delete(peer);
      this.#sharedReaders.add(peer);
      if (this.#sharedReaders.size > SHARED_READERS) {
        this.#sharedReaders.delete(this.#sharedReaders.values().next().value!);
      }
    }
  }

  /** Returns the id of the personal invite that a peer used last; null if it used none. */
  inviteOf(peer: string): string | null {
    return this.#newest.get(peer) ?? null;
  }

  /** Returns whether a peer may read the job, because it once showed an invite that has not been revoked since. */
  isReader(peer: string): boolean {
    const bound = this.#invite(this.#newest.get(peer));
    return bound ? bound.revokedAt === null : this.#sharedReaders.has(peer);
  }

  /** Returns the role that the personal invite of a reader gives; null without such an invite, or if it is revoked. */
  roleOf(peer: string): Role | null {
    const bound = this.#invite(this.#newest.get(peer));
    return bound?.revokedAt === null ? bound.role : null;
  }

  /**
   * Returns the admitted readers that a person answers for. Members that have used a personal invite count as readers.
   */
  readersOf({ peer, person }: { peer: string; person: string }): string[] {
    const bound = [...this.#newest].flatMap(([other, invite]) =>
      personOf({ peer: other, invite }) === person ? [other] : [],
    );
    return [...new Set([peer, ...bound])].filter((other) => this.isReader(other));
  }

  /** Returns whether the personal invite that a peer used last is revoked. */
  isShutOut(peer: string): boolean {
    return (this.#invite(this.#newest.get(peer))?.revokedAt ?? null) !== null;
  }

  /** @throws SwarmError INVITE_REVOKED if the personal invite that the peer used last is revoked */
  checkNotRevoked(peer: string): void {
    if (this.isShutOut(peer)) throw revoked(this.#newest.get(peer)!);
  }

  #grant(invite: StoredInvite, peer: string): Grant {
    return grantOf(invite, peer, { bound: this.boundTo(invite.id), now: this.#context.deps.clock.now() });
  }

  #invite(id: string | undefined): StoredInvite | undefined {
    return id === undefined ? undefined : this.#byId.get(id);
  }

  #named(name: string): StoredInvite | null {
    return this.all().find((invite) => invite.name === name && invite.revokedAt === null) ?? null;
  }

  #remember(invite: StoredInvite): void {
    this.#byId.set(invite.id, invite);
    this.#byToken.set(invite.tokenDigest, invite.id);
    this.#bound.set(invite.id, new Map());
  }

  #noteBinding(invite: string, peer: string, boundAt: number): void {
    this.#bound.get(invite)?.set(peer, boundAt);
    this.#newest.set(peer, invite);
  }
}

function digestOf(token: string): string {
  return sha256(Buffer.from(token));
}
