import type { Database } from '../../storage/database.ts';

/**
 * Time in milliseconds after which a hold ends even if it was not released, because its process was killed. Additions
 * and exports take minutes at most.
 */
const HOLD_MS = 24 * 60 * 60 * 1000;

/**
 * Protects blobs from garbage collection by this and other processes. A hold is a list of blobs that an addition or
 * export needs. A blob may be deleted only if no hold lists it, and all versions that have it were removed.
 */
export class HoldTable {
  readonly #db: Database;

  constructor({ db }: { db: Database }) {
    this.#db = db;
  }

  /**
   * Protects blobs from deletion. The blobs need not exist yet, so the caller can write them afterwards.
   * @returns the number of the hold, for `release`
   */
  hold(digests: Iterable<string>, now: number): number {
    return this.#db.transaction(() => {
      const { id } = this.#db.one('INSERT INTO holds (expires_at) VALUES (?) RETURNING id', now + HOLD_MS)!;
      for (const digest of new Set(digests))
        this.#db.run('INSERT INTO held_blobs VALUES (?, ?)', id!, digest);
      return Number(id);
    });
  }

  release(hold: number): void {
    this.#db.run('DELETE FROM holds WHERE id = ?', hold);
  }

  releaseExpired(now: number): void {
    this.#db.run('DELETE FROM holds WHERE expires_at < ?', now);
  }

  /**
   * Returns whether a blob must stay.
   * @param removedSince time in milliseconds since 1970. Files of versions that were removed after this time must stay
   * too
   */
  isNeeded(digest: string, now: number, removedSince: number): boolean {
    const sql = `SELECT EXISTS (
        SELECT 1 FROM version_files f JOIN versions v ON v.name = f.name AND v.number = f.number
        WHERE f.digest = ? AND (v.removed_at IS NULL OR v.removed_at > ?)
      ) OR EXISTS (
        SELECT 1 FROM held_blobs b JOIN holds h ON h.id = b.hold WHERE b.digest = ? AND h.expires_at >= ?
      ) AS needed`;
    return this.#db.one(sql, digest, removedSince, digest, now)!.needed === 1;
  }
}
