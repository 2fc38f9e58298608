import { closeSync, openSync } from 'node:fs';
import type { SQLInputValue, StatementSync } from 'node:sqlite';
import { commonError } from '../common/common-errors.ts';
import { DatabaseSync } from '../common/sqlite.ts';
import { storageError } from './errors.ts';

export type Row = Record<string, null | number | string | Uint8Array<ArrayBuffer>>;

/** The tables of a database. */
export interface Schema {
  /** Grows by one with each change of the tables. A file with another version is refused. */
  readonly version: number;
  /** Creates all tables. */
  readonly sql: string;
}

/** A step from one schema version to the next: SQL, or a function. Databases with a {@link Schema} need none. */
export type Migration = string | ((db: Database) => void);

export interface DatabaseOptions {
  /** Path of the file, or ":memory:". */
  readonly path: string;
  /** The tables, or one migration per schema version. */
  readonly schema: Schema | readonly Migration[];
  /**
   * Whether to read the file without changing it, also while a daemon writes to it. The file must exist. @default false
   */
  readonly readOnly?: boolean;
}

/** Maximum time that a statement waits for another process's transaction, for example in a person's SQLite shell. */
const BUSY_TIMEOUT_MS = 5_000;

/** Primary result codes of SQLite (https://sqlite.org/rescode.html) for faults of the disk or the file. */
const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;
const SQLITE_NOTADB = 26;
/** Result codes for: busy, locked, read-only, input/output error, cannot open. */
const SQLITE_REFUSED: readonly number[] = [5, 6, 8, 10, 14];

/**
 * An SQLite file in WAL mode with synchronous=FULL, so a transaction that has returned survives a power loss. All
 * methods are synchronous, so that a state machine and its record cannot diverge during an await. If the disk is full,
 * or the file is damaged or cannot be read or written, methods throw SwarmError STORE_FULL, STORE_CORRUPT or
 * STORE_REFUSED, and the transaction changes nothing.
 */
export class Database {
  readonly #path: string;
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #depth = 0;

  /**
   * @throws SwarmError STORE_NEWER if a newer release has written the file, STORE_OLDER if an older release has written the
   *   file, STORE_CORRUPT, STORE_REFUSED
   */
  constructor({ path, schema, readOnly = false }: DatabaseOptions) {
    this.#path = path;
    this.#db = this.#convertingErrors(() => {
      if (!readOnly) makePrivate(path);
      return new DatabaseSync(path, {
        timeout: BUSY_TIMEOUT_MS,
        enableForeignKeyConstraints: true,
        readOnly,
      });
    });
    try {
      if (!readOnly) this.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
      if ('version' in schema) this.#openTables(schema, readOnly);
      else this.#migrate(schema, readOnly);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get #version(): number {
    return this.one('PRAGMA user_version')!.user_version as number;
  }

  #openTables({ version, sql }: Schema, readOnly: boolean): void {
    if (this.#version === 0 && !readOnly)
      this.transaction(() => {
        // Another process may have created the tables since then.
        if (this.#version === 0) this.exec(`${sql}; PRAGMA user_version = ${version}`);
      });
    if (this.#version !== version) throw this.#otherVersion(version);
  }

  #otherVersion(known: number) {
    const found = this.#version;
    const release = found > known ? 'a newer release' : 'an older release';
    const text = `${release} of lora-swarm wrote ${this.#path}: its tables have version ${found}, and this release reads only version ${known}`;
    return storageError(found > known ? 'STORE_NEWER' : 'STORE_OLDER', text, {
      path: this.#path,
      found,
      known,
    });
  }

  #migrate(migrations: readonly Migration[], readOnly: boolean): void {
    const version = this.#version;
    const isOlder = version < migrations.length;
    if (version > migrations.length || (readOnly && isOlder)) throw this.#otherVersion(migrations.length);
    for (const [index, step] of migrations.entries()) {
      if (index < version) continue;
      this.transaction(() => {
        // Read the version again, because another process may have made this step since then.
        if (index < this.#version) return;
        if (typeof step === 'string') this.exec(step);
        else step(this);
        this.exec(`PRAGMA user_version = ${index + 1}`);
      });
    }
  }

  /** Runs `work` as one transaction. Inside another transaction, `work` becomes part of that transaction. */
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
      // Roll back only if the transaction is still open. SQLite may have ended it already, after a full disk
      // or a failed COMMIT.
      if (!done && this.#db.isTransaction) this.exec('ROLLBACK');
    }
  }

  /** Runs several statements without values. */
  exec(sql: string): void {
    this.#convertingErrors(() => this.#db.exec(sql));
  }

  /** @returns the number of changed rows */
  run(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#convertingErrors(() => this.#prepared(sql).run(...values)).changes);
  }

  one(sql: string, ...values: SQLInputValue[]): Row | null {
    return (this.#convertingErrors(() => this.#prepared(sql).get(...values)) as Row | undefined) ?? null;
  }

  all(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#convertingErrors(() => this.#prepared(sql).all(...values)) as Row[];
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

  #convertingErrors<T>(work: () => T): T {
    try {
      return work();
    } catch (cause) {
      throw storeError(cause, this.#path);
    }
  }
}

/**
 * Creates the database file so that only its owner can read it, because it holds invite tokens and held-out data.
 * SQLite gives the WAL files the same permissions. A failure is ignored here, because SQLite reports it when it opens
 * the file.
 */
function makePrivate(path: string): void {
  if (path === ':memory:') return;
  try {
    closeSync(openSync(path, 'ax', 0o600));
  } catch {
    // Ignore the error. Either the file exists already, or SQLite will report why it cannot be created.
  }
}

/**
 * Converts a fault of the disk or the file to a SwarmError. Any other error is a bug in this program and stays
 * unchanged.
 */
function storeError(cause: unknown, path: string): unknown {
  if (!(cause instanceof Error && 'errcode' in cause && typeof cause.errcode === 'number')) return cause;
  // The lowest byte is the primary code. The higher bytes are details.
  const code = cause.errcode & 0xff;
  const values = { path, errcode: cause.errcode };
  if (code === SQLITE_FULL) {
    return commonError('STORE_FULL', `no space left to write ${path}`, values, { cause });
  }
  if (code === SQLITE_CORRUPT || code === SQLITE_NOTADB) {
    return storageError('STORE_CORRUPT', `${path} is damaged (${cause.message})`, values, { cause });
  }
  if (SQLITE_REFUSED.includes(code)) {
    return storageError('STORE_REFUSED', `${path} cannot be used (${cause.message})`, values, { cause });
  }
  return cause;
}
