import type { Database } from '../../storage/database.ts';

/** The secret keys of a job. */
export interface StoredKeys {
  /** Private key that decrypts the messages that nodes seal. */
  readonly seal: Uint8Array;
  /** Id of the key under which heads are encrypted. */
  readonly id: number;
  /** The key under which heads are encrypted. */
  readonly key: Uint8Array;
}

/** The secret keys of each job. */
export class KeyTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Returns the keys of a job; null if the job was created by an old version of this program, which had no keys. */
  find(job: string): StoredKeys | null {
    const row = this.#db.one('SELECT seal, key_id, key FROM job_keys WHERE job = ?', job);
    return row && { seal: row.seal as Uint8Array, id: row.key_id as number, key: row.key as Uint8Array };
  }

  put(job: string, { seal, id, key }: StoredKeys): void {
    this.#db.run(
      'INSERT OR REPLACE INTO job_keys (job, seal, key_id, key) VALUES (?, ?, ?, ?)',
      job,
      seal,
      id,
      key,
    );
  }
}
