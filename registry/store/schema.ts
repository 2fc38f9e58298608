import type { Schema } from '../../storage/database.ts';

/**
 * The tables of a registry. A version's row and its manifest stay when the version is removed, so that its number is
 * never used again and the lineage of later versions stays complete.
 */
export const SCHEMA: Schema = {
  version: 2,
  sql: `
  CREATE TABLE versions (
    name TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number > 0),
    digest TEXT NOT NULL,
    -- Digest of base and files: the same content added again is the same version.
    content TEXT NOT NULL,
    manifest BLOB NOT NULL,
    added_at INTEGER NOT NULL,
    removed_at INTEGER,
    PRIMARY KEY (name, number),
    UNIQUE (name, content)
  ) STRICT;
  CREATE INDEX versions_by_digest ON versions (digest);

  CREATE TABLE version_files (
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (digest, name, number),
    FOREIGN KEY (name, number) REFERENCES versions (name, number)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE tag_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    tag TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('set', 'rollback', 'delete')),
    from_number INTEGER,
    to_number INTEGER,
    at INTEGER NOT NULL,
    author TEXT NOT NULL,
    reason TEXT NOT NULL
  ) STRICT;
  CREATE INDEX tag_log_by_tag ON tag_log (name, tag, id);
  CREATE TRIGGER tag_log_no_update BEFORE UPDATE ON tag_log
    BEGIN SELECT RAISE(ABORT, 'the tag log is append-only'); END;
  CREATE TRIGGER tag_log_no_delete BEFORE DELETE ON tag_log
    BEGIN SELECT RAISE(ABORT, 'the tag log is append-only'); END;

  CREATE TABLE measurements (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    source TEXT NOT NULL,
    metrics TEXT NOT NULL,
    FOREIGN KEY (name, number) REFERENCES versions (name, number)
  ) STRICT;
  CREATE INDEX measurements_by_version ON measurements (name, number, id);

  -- Where a base was last seen on this machine. This is only a hint, so code that opens the folder checks its digest.
  CREATE TABLE bases (
    digest TEXT PRIMARY KEY,
    path TEXT NOT NULL,
    seen_at INTEGER NOT NULL
  ) STRICT;

  -- Blobs that a running process needs: an addition that is not recorded yet, or an export.
  CREATE TABLE holds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    expires_at INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE held_blobs (
    hold INTEGER NOT NULL REFERENCES holds (id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    PRIMARY KEY (digest, hold)
  ) STRICT, WITHOUT ROWID;

  -- Versions that the daemons of this user serve to anyone who has the key.
  CREATE TABLE shares (
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    key BLOB NOT NULL,
    shared_at INTEGER NOT NULL,
    PRIMARY KEY (name, number),
    FOREIGN KEY (name, number) REFERENCES versions (name, number)
  ) STRICT;
  `,
};
