import { closeSync, openSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { commonError } from '../common/common-errors.ts';
import { storageError } from './errors.ts';

export type Row = Record<string, null | number | string | Uint8Array<ArrayBuffer>>;

/** What makes a schema of the one before; a released one never changes. */
export type Migration = string | ((db: Database) => void);

export interface DatabaseOptions {
  /** Of the file, or ":memory:". */
  readonly path: string;
  /** One entry per version of the schema. */
  readonly migrations: readonly Migration[];
}

/** How long a statement waits for another process's transaction, e.g. of somebody who looks into the file. */
const BUSY_TIMEOUT_MS = 5_000;

/** SQLite's primary result codes (https://sqlite.org/rescode.html) of what the machine does to a file. */
const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;
const SQLITE_NOTADB = 26;
/** Busy, locked, read-only, input/output error, cannot open. */
const SQLITE_REFUSED: readonly number[] = [5, 6, 8, 10, 14];

/**
 * One SQLite file in WAL mode with synchronous=FULL: when a transaction returns, it survives the loss of power.
 * Everything here is synchronous, so that a state machine and its record cannot drift apart between two awaits.
 * Whatever reads or writes throws SwarmError STORE_FULL, STORE_CORRUPT or STORE_REFUSED where the machine is at fault;
 * then the transaction at hand has changed nothing.
 */
export class Database {
  readonly #path: string;
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #depth = 0;

  /** @throws SwarmError STORE_NEWER when a later release has written the file, STORE_CORRUPT, STORE_REFUSED */
  constructor({ path, migrations }: DatabaseOptions) {
    this.#path = path;
    this.#db = this.#telling(() => {
      makePrivate(path);
      return new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS, enableForeignKeyConstraints: true });
    });
    try {
      this.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
      this.#migrate(migrations);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #migrate(migrations: readonly Migration[]): void {
    const { user_version: version } = this.one('PRAGMA user_version')! as { user_version: number };
    if (version > migrations.length) {
      throw storageError(
        'STORE_NEWER',
        `${this.#path} was written by a newer lora-swarm (schema ${version}, this one knows ${migrations.length}); update this program`,
        { path: this.#path, found: version, known: migrations.length },
      );
    }
    for (const [index, step] of migrations.entries()) {
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
    if (this.#depth > 0) return work();
    this.exec('BEGIN IMMEDIATE');
    this.#depth++;
    let done = false;
    try {
      const result = work();
      this.exec('COMMIT');
      done = true;
      return result;
    } finally {
      this.#depth--;
      // A full disk, and a failed COMMIT, may have ended the transaction already.
      if (!done && this.#db.isTransaction) this.exec('ROLLBACK');
    }
  }

  /** Several statements without values, as migrations have them. */
  exec(sql: string): void {
    this.#telling(() => this.#db.exec(sql));
  }

  /** @returns how many rows it has changed */
  run(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#telling(() => this.#prepared(sql).run(...values)).changes);
  }

  one(sql: string, ...values: SQLInputValue[]): Row | null {
    return (this.#telling(() => this.#prepared(sql).get(...values)) as Row | undefined) ?? null;
  }

  all(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#telling(() => this.#prepared(sql).all(...values)) as Row[];
  }

  close(): void {
    this.#statements.clear();
    if (this.#db.isOpen) this.#db.close();
  }

  #prepared(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #telling<T>(work: () => T): T {
    try {
      return work();
    } catch (cause) {
      throw storeError(cause, this.#path);
    }
  }
}

/**
 * A new file is its owner's alone: invite tokens and held-out data lie in it. SQLite gives those beside it the same mode.
 * What cannot be made here is SQLite's to tell.
 */
function makePrivate(path: string): void {
  if (path === ':memory:') return;
  try {
    closeSync(openSync(path, 'ax', 0o600));
  } catch {
    // There already.
  }
}

/** What the machine has done to the file, in our words; anything else is a defect of ours and stays as it is. */
function storeError(cause: unknown, path: string): unknown {
  if (!(cause instanceof Error && 'errcode' in cause && typeof cause.errcode === 'number')) return cause;
  // The lower byte; the rest says more precisely what.
  const code = cause.errcode & 0xff;
  const values = { path, errcode: cause.errcode };
  if (code === SQLITE_FULL) {
    return commonError('STORE_FULL', `no space left to write ${path}`, values, { cause });
  }
  if (code === SQLITE_CORRUPT || code === SQLITE_NOTADB) {
    return storageError(
      'STORE_CORRUPT',
      `${path} is damaged (${cause.message}); put a backup in its place, or move it away to start without what it held`,
      values,
      { cause },
    );
  }
  if (SQLITE_REFUSED.includes(code)) {
    return storageError(
      'STORE_REFUSED',
      `${path} cannot be used (${cause.message}); check the disk and who owns the file`,
      values,
      { cause },
    );
  }
  return cause;
}
