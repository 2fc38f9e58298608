import type { VersionManifest } from '../../protocol/version-manifest.ts';
import type { Database, Row } from '../../storage/database.ts';

/** A row of the table of versions. */
export interface StoredVersion {
  readonly name: string;
  readonly number: number;
  /** Digest of the manifest's body. */
  readonly digest: string;
  /** Digest of the version's base and files, by which a version that is added again is recognised. */
  readonly content: string;
  /** The signed manifest. */
  readonly envelope: Uint8Array;
  readonly addedAt: number;
  /** Time of the removal, in milliseconds since 1970; null if the version has not been removed. */
  readonly removedAt: number | null;
}

/** A measurement of a version that was made after the version was added. */
export interface Measurement {
  readonly at: number;
  /** Name of the program or file that made the measurement, such as the name of a task file. */
  readonly source: string;
  readonly metrics: VersionManifest['metrics'];
}

/** Versions, their files, measurements and bases. All methods are synchronous and may be part of a transaction. */
export class VersionTable {
  readonly #db: Database;

  constructor({ db }: { db: Database }) {
    this.#db = db;
  }

  names(): string[] {
    const rows = this.#db.all('SELECT DISTINCT name FROM versions WHERE removed_at IS NULL ORDER BY name');
    return rows.map(({ name }) => String(name));
  }

  /** Returns the versions of a name, including removed ones, oldest first. */
  ofName(name: string): StoredVersion[] {
    return this.#db.all('SELECT * FROM versions WHERE name = ? ORDER BY number', name).map(versionOf);
  }

  get(name: string, number: number): StoredVersion | null {
    return optional(this.#db.one('SELECT * FROM versions WHERE name = ? AND number = ?', name, number));
  }

  /** Returns the versions of a name whose digest begins with `prefix`. */
  withDigest(name: string, prefix: string): StoredVersion[] {
    const sql = 'SELECT * FROM versions WHERE name = ? AND substr(digest, 1, ?) = ? ORDER BY number';
    return this.#db.all(sql, name, prefix.length, prefix).map(versionOf);
  }

  /** Returns the version with this digest, under any name. */
  byDigest(digest: string): StoredVersion | null {
    return optional(this.#db.one('SELECT * FROM versions WHERE digest = ? LIMIT 1', digest));
  }

  byContent(name: string, content: string): StoredVersion | null {
    return optional(this.#db.one('SELECT * FROM versions WHERE name = ? AND content = ?', name, content));
  }

  /** Returns the versions that have a file with this digest, oldest first. */
  withFile(digest: string): StoredVersion[] {
    const sql = `SELECT v.* FROM versions v JOIN version_files f ON f.name = v.name AND f.number = v.number
      WHERE f.digest = ? ORDER BY v.added_at, v.name, v.number`;
    return this.#db.all(sql, digest).map(versionOf);
  }

  /** Returns the number of the next version of this name. Numbers of removed versions are not used again. */
  nextNumber(name: string): number {
    const row = this.#db.one('SELECT MAX(number) AS highest FROM versions WHERE name = ?', name);
    return Number(row?.highest ?? 0) + 1;
  }

  insert(version: StoredVersion, files: readonly string[]): void {
    const { name, number, digest, content, envelope, addedAt, removedAt } = version;
    this.#db.run(
      'INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)',
      name,
      number,
      digest,
      content,
      envelope,
      addedAt,
      removedAt,
    );
    for (const file of new Set(files))
      this.#db.run('INSERT INTO version_files VALUES (?, ?, ?)', name, number, file);
  }

  /** Records the time at which a version was removed. With null, undoes the removal. */
  setRemoved(name: string, number: number, removedAt: number | null): void {
    const sql = 'UPDATE versions SET removed_at = ? WHERE name = ? AND number = ?';
    this.#db.run(sql, removedAt, name, number);
  }

  measure(name: string, number: number, { at, source, metrics }: Measurement): void {
    const sql = 'INSERT INTO measurements (name, number, at, source, metrics) VALUES (?, ?, ?, ?, ?)';
    this.#db.run(sql, name, number, at, source, JSON.stringify(metrics));
  }

  /** Returns the measurements of a version, oldest first. */
  measurements(name: string, number: number): Measurement[] {
    const sql = 'SELECT at, source, metrics FROM measurements WHERE name = ? AND number = ? ORDER BY id';
    return this.#db.all(sql, name, number).map(({ at, source, metrics }) => ({
      at: Number(at),
      source: String(source),
      metrics: JSON.parse(String(metrics)) as VersionManifest['metrics'],
    }));
  }

  rememberBase(digest: string, path: string, seenAt: number): void {
    const sql = `INSERT INTO bases VALUES (?, ?, ?)
      ON CONFLICT (digest) DO UPDATE SET path = excluded.path, seen_at = excluded.seen_at`;
    this.#db.run(sql, digest, path, seenAt);
  }

  /** Returns the folder where a base was last seen on this machine. */
  baseFolder(digest: string): string | null {
    const row = this.#db.one('SELECT path FROM bases WHERE digest = ?', digest);
    return row === null ? null : String(row.path);
  }
}

function optional(row: Row | null): StoredVersion | null {
  return row === null ? null : versionOf(row);
}

function versionOf(row: Row): StoredVersion {
  return {
    name: String(row.name),
    number: Number(row.number),
    digest: String(row.digest),
    content: String(row.content),
    envelope: row.manifest as Uint8Array,
    addedAt: Number(row.added_at),
    removedAt: row.removed_at === null ? null : Number(row.removed_at),
  };
}
