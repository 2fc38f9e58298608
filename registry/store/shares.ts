import type { Database } from '../../storage/database.ts';

/** A version that daemons serve. */
export interface KeptShare {
  readonly name: string;
  readonly number: number;
  /** Secret key in the ticket of the version. */
  readonly key: Uint8Array;
  /** Time at which the version was shared first, in milliseconds since 1970. */
  readonly sharedAt: number;
}

/** The versions that daemons serve. All methods are synchronous and may be part of a transaction. */
export class ShareTable {
  readonly #db: Database;

  constructor({ db }: { db: Database }) {
    this.#db = db;
  }

  /** Lists the shares of versions that have not been removed. */
  all(): KeptShare[] {
    const rows = this.#db.all('SELECT * FROM shares ORDER BY name, number');
    return rows.map(({ name, number, key, shared_at }) => ({
      name: String(name),
      number: Number(number),
      key: new Uint8Array(key as Uint8Array),
      sharedAt: Number(shared_at),
    }));
  }

  /** Shares a version. A version that is shared already keeps its key, so that its earlier tickets stay valid. */
  keep({ name, number }: { name: string; number: number }, key: Uint8Array, now: number): void {
    this.#db.run('INSERT INTO shares VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING', name, number, key, now);
  }

  /** Ends the share of a version. @returns false if the version was not shared */
  end({ name, number }: { name: string; number: number }): boolean {
    const sql = 'DELETE FROM shares WHERE name = ? AND number = ? RETURNING name';
    return this.#db.one(sql, name, number) !== null;
  }
}
