import type { Database } from '../../storage/database.ts';

/**
 * Records for each blob which coordinators have supplied it: the coordinators in whose jobs the node fetched or computed
 * the whole blob. Anyone can know a digest. Only a coordinator that supplied the bytes may have them trained on or get
 * them back.
 */
export class BlobOrigins {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  has(digest: string, coordinator: string): boolean {
    const sql = 'SELECT 1 FROM blob_origins WHERE digest = ? AND coordinator = ?';
    return this.#db.one(sql, digest, coordinator) !== null;
  }

  add(digest: string, coordinator: string): void {
    this.#db.run(
      'INSERT OR IGNORE INTO blob_origins (digest, coordinator) VALUES (?, ?)',
      digest,
      coordinator,
    );
  }

  /**
   * Records that a fetch in a job of this coordinator begins. An earlier fetch may have left a part of the bytes.
   * @param isStored whether the blob store has the blob already
   */
  begin(digest: string, coordinator: string, { isStored }: { isStored: boolean }): void {
    this.#db.transaction(() => {
      if (!isStored) this.#db.run('DELETE FROM blob_origins WHERE digest = ?', digest);
      this.#db.run(
        `INSERT INTO blob_fetches (digest, coordinator) VALUES (?, ?) ON CONFLICT (digest) DO UPDATE
           SET coordinator = CASE coordinator WHEN excluded.coordinator THEN coordinator END`,
        digest,
        coordinator,
      );
    });
  }

  /** Records that a fetch has ended with the whole blob. Returns whether this coordinator supplied all bytes. */
  end(digest: string, coordinator: string): boolean {
    return this.#db.transaction(() => {
      const row = this.#db.one('SELECT coordinator FROM blob_fetches WHERE digest = ?', digest);
      this.#db.run('DELETE FROM blob_fetches WHERE digest = ?', digest);
      if (row?.coordinator !== coordinator) return false;
      this.add(digest, coordinator);
      return true;
    });
  }

  /** Removes what is recorded about a deleted blob. */
  forget(digest: string): void {
    this.#db.run('DELETE FROM blob_origins WHERE digest = ?', digest);
    this.#db.run('DELETE FROM blob_fetches WHERE digest = ?', digest);
  }
}
