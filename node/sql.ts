import type { DatabaseSync, StatementSync } from 'node:sqlite';

/** A node's database, as its tables use it. */
export class Sql {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** Statements are compiled once. */
  prepare(text: string): StatementSync {
    let statement = this.#statements.get(text);
    if (!statement) {
      statement = this.#database.prepare(text);
      this.#statements.set(text, statement);
    }
    return statement;
  }

  /** One durable transaction. */
  write<T>(change: () => T): T {
    this.#database.exec('BEGIN IMMEDIATE');
    try {
      const result = change();
      this.#database.exec('COMMIT');
      return result;
    } catch (error) {
      this.#database.exec('ROLLBACK');
      throw error;
    }
  }

  /** Lists blobs as ones that no row may need any more, or yet. */
  loosen(...digests: (string | null)[]): void {
    const insert = this.prepare('INSERT OR IGNORE INTO loose (digest) VALUES (?)');
    for (const digest of digests) if (digest !== null) insert.run(digest);
  }

  ensureJob(job: string): void {
    this.prepare('INSERT OR IGNORE INTO jobs (job) VALUES (?)').run(job);
  }
}

export function text(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}
