import type { Role } from '../../protocol/requests/member-status.ts';
import type { Database } from '../../storage/database.ts';
import { fromRow, insertInto, updateRows } from './fields.ts';

/** A personal invite. The store has only the digest of its token, not the token itself. */
export interface StoredInvite {
  /** Random id, which is not secret. */
  readonly id: string;
  readonly name: string | null;
  readonly role: Role;
  /** Number of machines that may join with the invite. */
  readonly uses: number;
  readonly createdAt: number;
  /** Time after which no further machine may join with the invite; null if it never expires. */
  readonly expiresAt: number | null;
  readonly revokedAt: number | null;
  /** SHA-256 of the token. */
  readonly tokenDigest: string;
}

/** A peer that has used a personal invite. */
export interface StoredBinding {
  readonly invite: string;
  readonly peer: string;
  readonly boundAt: number;
}

/** The revoked shared invite of a job. */
export interface RevokedShared {
  readonly revokedAt: number;
  /** SHA-256 of the token. */
  readonly tokenDigest: string;
}

/** Personal invites of each job, and the peers that have used them. */
export class InviteTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  insert(job: string, invite: StoredInvite): void {
    insertInto(this.#db, 'invites', { job, ...invite });
  }

  /** Returns the invites of a job, oldest first. */
  all(job: string): StoredInvite[] {
    const rows = this.#db.all('SELECT * FROM invites WHERE job = ? ORDER BY created_at, id', job);
    return rows.map((row) => fromRow(row));
  }

  revoke(job: string, id: string, at: number): void {
    updateRows(this.#db, 'invites', { job, id }, { revokedAt: at });
  }

  /**
   * Binds a peer to an invite. If the peer is bound to it already, only the time of the binding changes, so that
   * `inviteOf` returns this invite.
   */
  bind(job: string, { invite, peer, boundAt }: StoredBinding): void {
    this.#db.run(
      `INSERT INTO invite_peers (job, invite, peer, bound_at) VALUES (?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET bound_at = excluded.bound_at`,
      job,
      invite,
      peer,
      boundAt,
    );
  }

  /** Returns the personal invite that a peer used last; null if it used none. */
  inviteOf(job: string, peer: string): string | null {
    const sql = 'SELECT invite FROM invite_peers WHERE job = ? AND peer = ? ORDER BY bound_at DESC LIMIT 1';
    return (this.#db.one(sql, job, peer)?.invite as string | undefined) ?? null;
  }

  /** Returns all bindings of a job, oldest first. */
  bindings(job: string): StoredBinding[] {
    const sql = 'SELECT * FROM invite_peers WHERE job = ? ORDER BY bound_at, invite, peer';
    return this.#db.all(sql, job).map((row) => fromRow(row));
  }

  /** Revokes the shared invite of a job: deletes its token and keeps the token's digest. */
  revokeShared(job: string, { revokedAt, tokenDigest }: RevokedShared): void {
    const changes = { token: null, sharedRevokedAt: revokedAt, sharedDigest: tokenDigest };
    updateRows(this.#db, 'jobs', { job }, changes);
  }

  /** Returns the revoked shared invite of a job; null if the shared invite is not revoked. */
  revokedShared(job: string): RevokedShared | null {
    const row = this.#db.one(
      'SELECT shared_revoked_at, shared_digest FROM jobs WHERE job = ? AND shared_revoked_at IS NOT NULL',
      job,
    );
    return row && { revokedAt: row.shared_revoked_at as number, tokenDigest: row.shared_digest as string };
  }
}
