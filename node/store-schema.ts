import type { DatabaseSync } from 'node:sqlite';
import { SwarmError } from '../protocol/errors.ts';

/** Raised with every change of the tables below. */
const VERSION = 1;

const TABLES = `
  CREATE TABLE jobs (
    job TEXT PRIMARY KEY,
    feedback TEXT,
    feedback_round INTEGER NOT NULL DEFAULT 0,
    optimizer TEXT,
    checkpoint TEXT,
    adapter TEXT,
    adapter_bytes INTEGER NOT NULL DEFAULT 0,
    tokens_per_second REAL NOT NULL DEFAULT 0
  ) STRICT;
  CREATE TABLE updates (
    job TEXT NOT NULL,
    round INTEGER NOT NULL,
    digest TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    preset TEXT NOT NULL,
    envelope BLOB NOT NULL,
    outcome TEXT,
    code TEXT,
    detail TEXT NOT NULL DEFAULT '',
    at INTEGER NOT NULL,
    PRIMARY KEY (job, round)
  ) STRICT;
  CREATE TABLE loose (digest TEXT PRIMARY KEY) STRICT;
  CREATE TABLE notices (name TEXT PRIMARY KEY) STRICT;
`;

/** Makes the tables of a new database. @throws SwarmError STORE_NEWER */
export function openSchema(database: DatabaseSync): void {
  // FULL: a transaction is on the disk when COMMIT returns, also after a power cut.
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
  const version = Number(database.prepare('PRAGMA user_version').get()?.user_version ?? 0);
  if (version === VERSION) return;
  if (version !== 0) {
    throw new SwarmError(
      'STORE_NEWER',
      `node.sqlite has version ${version}, this release reads version ${VERSION}; use the release that wrote it`,
      { found: version, expected: VERSION },
    );
  }
  database.exec(`BEGIN; ${TABLES} PRAGMA user_version = ${VERSION}; COMMIT;`);
}
