import type { Schema } from '../../storage/database.ts';

/** The tables of a node's database. */
export const SCHEMA: Schema = {
  version: 14,
  sql: `
  CREATE TABLE jobs (
    job TEXT PRIMARY KEY,
    name TEXT,
    -- Peer id of the job's coordinator. Only this coordinator may fetch the job's updates.
    coordinator TEXT,
    feedback TEXT,
    feedback_round INTEGER NOT NULL DEFAULT 0,
    optimizer TEXT,
    checkpoint TEXT,
    adapter TEXT,
    adapter_bytes INTEGER NOT NULL DEFAULT 0,
    tokens_per_second REAL NOT NULL DEFAULT 0,
    base TEXT,
    disk_bytes INTEGER NOT NULL DEFAULT 0,
    used_at INTEGER NOT NULL DEFAULT 0,
    over INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  -- Blobs of a job's base and data.
  CREATE TABLE job_blobs (job TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (job, digest)) STRICT, WITHOUT ROWID;
  CREATE INDEX job_blobs_by_digest ON job_blobs (digest);
  CREATE TABLE updates (
    job TEXT NOT NULL,
    round INTEGER NOT NULL,
    digest TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    preset TEXT NOT NULL,
    -- Empty once the update is settled, because it is then never sent again.
    envelope BLOB NOT NULL,
    outcome TEXT,
    code TEXT,
    detail TEXT NOT NULL DEFAULT '',
    at INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,
    -- Peer id of the key that signed the update.
    peer TEXT,
    PRIMARY KEY (job, round)
  ) STRICT;
  -- Peer id of the key that the home has now. The status and the totals contain only the updates of this key.
  CREATE TABLE present_key (peer TEXT NOT NULL) STRICT;
  CREATE TABLE loose (digest TEXT PRIMARY KEY) STRICT;
  CREATE TABLE notices (name TEXT PRIMARY KEY) STRICT;
  -- Bytes on all connections, by month of UTC ("2026-11").
  CREATE TABLE traffic (month TEXT PRIMARY KEY, sent INTEGER NOT NULL, received INTEGER NOT NULL) STRICT;
  -- Coordinators that have supplied a blob. Only they may get it back.
  CREATE TABLE blob_origins (
    digest TEXT NOT NULL,
    coordinator TEXT NOT NULL,
    PRIMARY KEY (digest, coordinator)
  ) STRICT, WITHOUT ROWID;
  -- What this node has contributed to a job, compared with all contributors, as the coordinator answered last.
  CREATE TABLE contributions (
    job TEXT PRIMARY KEY,
    round INTEGER NOT NULL,
    place INTEGER NOT NULL,
    contributors INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- Messages that the coordinator of a job has signed.
  CREATE TABLE kept_heads (
    job TEXT PRIMARY KEY,
    term INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    envelope BLOB NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE kept_checkpoints (
    job TEXT NOT NULL,
    round INTEGER NOT NULL,
    -- Number of checkpoints before this one.
    ordinal INTEGER NOT NULL,
    digest TEXT NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (job, round)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE kept_receipts (
    job TEXT NOT NULL,
    round INTEGER NOT NULL,
    digest TEXT NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (job, round)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE kept_settings (
    job TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    digest TEXT NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (job, digest)
  ) STRICT, WITHOUT ROWID;
  -- The newest record of removals of each job, which only its coordinator can read.
  CREATE TABLE kept_removals (
    job TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    envelope BLOB NOT NULL
  ) STRICT, WITHOUT ROWID;
  -- Signed manifests of joined jobs, with the newest job key, by which the node recognises other peers of the job.
  CREATE TABLE kept_jobs (
    job TEXT PRIMARY KEY,
    coordinator TEXT NOT NULL,
    manifest BLOB NOT NULL,
    is_open INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    key BLOB NOT NULL,
    joined_at INTEGER NOT NULL
  ) STRICT;
  -- Checkpoints that a witness has checked, with the proofs of their contributors and their scores.
  CREATE TABLE kept_merges (
    job TEXT NOT NULL,
    round INTEGER NOT NULL,
    digest TEXT NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (job, round)
  ) STRICT, WITHOUT ROWID;
  `,
};
