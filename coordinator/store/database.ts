import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { SwarmError } from '../../protocol/errors.ts';
import { MIGRATIONS } from './schema.ts';

export type Row = Record<string, null | number | string | Uint8Array>;

/** How long a statement waits for another process's transaction, e.g. of somebody who looks into the file. */
const BUSY_TIMEOUT_MS = 5_000;

/**
 * One SQLite file in WAL mode with synchronous=FULL: when a transaction returns, it survives the loss of power.
 * Everything here is synchronous, so that a state machine and its record cannot drift apart between two awaits.
 */
export class Database {
  private readonly db: DatabaseSync;
  private readonly statements = new Map<string, StatementSync>();
  private depth = 0;

  /**
   * @param path of the file, or ":memory:"
   * @throws SwarmError STORE_NEWER when a later release has written the file
   */
  constructor(path: string) {
    this.db = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS, enableForeignKeyConstraints: true });
    this.db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
    const { user_version: version } = this.one('PRAGMA user_version')! as { user_version: number };
    if (version > MIGRATIONS.length) {
      this.db.close();
      throw new SwarmError(
        'STORE_NEWER',
        `${path} was written by a newer lora-swarm (schema ${version}, this one knows ${MIGRATIONS.length}); update this program`,
        { path, found: version, known: MIGRATIONS.length },
      );
    }
    for (const [index, step] of MIGRATIONS.entries()) {
      if (index < version) continue;
      this.transaction(() => {
        if (typeof step === 'string') this.exec(step);
        else step(this);
        this.exec(`PRAGMA user_version = ${index + 1}`);
      });
    }
  }

  /** Runs `work` as one transaction; inside another one it becomes part of it. */
  transaction<T>(work: () => T): T {
    if (this.depth > 0) return work();
    this.db.exec('BEGIN IMMEDIATE');
    this.depth++;
    let done = false;
    try {
      const result = work();
      this.db.exec('COMMIT');
      done = true;
      return result;
    } finally {
      this.depth--;
      // A failed COMMIT may have ended the transaction already.
      if (!done && this.db.isTransaction) this.db.exec('ROLLBACK');
    }
  }

  /** Several statements without values, as migrations have them. */
  exec(sql: string): void {
    this.db.exec(sql);
  }

  run(sql: string, ...values: SQLInputValue[]): void {
    this.prepared(sql).run(...values);
  }

  one(sql: string, ...values: SQLInputValue[]): Row | null {
    return (this.prepared(sql).get(...values) as Row | undefined) ?? null;
  }

  all(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.prepared(sql).all(...values) as Row[];
  }

  close(): void {
    this.statements.clear();
    if (this.db.isOpen) this.db.close();
  }

  private prepared(sql: string): StatementSync {
    let statement = this.statements.get(sql);
    if (!statement) {
      statement = this.db.prepare(sql);
      this.statements.set(sql, statement);
    }
    return statement;
  }
}
