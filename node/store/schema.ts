import type { Migration } from '../../storage/database.ts';

/** The schema of a node's store. Each entry migrates to the next version. An entry never changes after its release. */
export const MIGRATIONS: readonly Migration[] = [
  `
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
  `,
  `
  -- Blobs of a job's base and data.
  CREATE TABLE job_blobs (job TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (job, digest)) STRICT, WITHOUT ROWID;
  CREATE INDEX job_blobs_by_digest ON job_blobs (digest);
  ALTER TABLE jobs ADD COLUMN base TEXT;
  ALTER TABLE jobs ADD COLUMN disk_bytes INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE jobs ADD COLUMN used_at INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE jobs ADD COLUMN over INTEGER NOT NULL DEFAULT 0;
  -- The message of a settled update is never sent again.
  UPDATE updates SET envelope = x'' WHERE outcome IS NOT NULL;
  `,
  `
  -- Peer id of the job's coordinator. Only this coordinator may fetch the job's updates.
  ALTER TABLE jobs ADD COLUMN coordinator TEXT;
  `,
  `
  -- Name of the job, and the work in each update, for the totals of this home.
  ALTER TABLE jobs ADD COLUMN name TEXT;
  ALTER TABLE updates ADD COLUMN tokens INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE updates ADD COLUMN seconds REAL NOT NULL DEFAULT 0;
  -- Bytes on all connections, by month of UTC ("2026-11").
  CREATE TABLE traffic (month TEXT PRIMARY KEY, sent INTEGER NOT NULL, received INTEGER NOT NULL) STRICT;
  `,
  `
  -- Coordinators that have supplied a blob. Only they may get it back.
  CREATE TABLE blob_origins (
    digest TEXT NOT NULL,
    coordinator TEXT NOT NULL,
    PRIMARY KEY (digest, coordinator)
  ) STRICT, WITHOUT ROWID;
  -- Blobs that are being fetched, with the coordinator that has supplied all bytes so far; NULL if several did.
  CREATE TABLE blob_fetches (digest TEXT PRIMARY KEY, coordinator TEXT) STRICT;
  -- Earlier releases did not record who supplied a blob. A blob that only one coordinator names must be from this one.
  INSERT INTO blob_origins (digest, coordinator)
    SELECT digest, MIN(coordinator) FROM (
      SELECT job_blobs.digest, jobs.coordinator FROM job_blobs JOIN jobs ON jobs.job = job_blobs.job
      UNION SELECT adapter, coordinator FROM jobs WHERE adapter IS NOT NULL
    ) WHERE coordinator IS NOT NULL GROUP BY digest HAVING COUNT(DISTINCT coordinator) = 1;
  `,
  `
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
  `,
  `
  CREATE TABLE kept_settings (
    job TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    digest TEXT NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (job, digest)
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- Each coordinator has its own copies of unfinished fetches.
  DROP TABLE blob_fetches;
  `,
  `
  -- The newest record of removals of each job, which only its coordinator can read.
  CREATE TABLE kept_removals (
    job TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    envelope BLOB NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- Number of checkpoints before the kept one; NULL if an earlier release kept it.
  ALTER TABLE kept_checkpoints ADD COLUMN ordinal INTEGER;
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
  `,
  `
  -- Checkpoints that a witness has checked, with the proofs of their contributors and their scores.
  CREATE TABLE kept_merges (
    job TEXT NOT NULL,
    round INTEGER NOT NULL,
    digest TEXT NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (job, round)
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- What this node has contributed to a job, compared with all contributors, as the coordinator answered last.
  CREATE TABLE contributions (
    job TEXT PRIMARY KEY,
    round INTEGER NOT NULL,
    place INTEGER NOT NULL,
    contributors INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- Peer id of the key that the home has now. The status and the totals contain only the updates of this key.
  CREATE TABLE present_key (peer TEXT NOT NULL) STRICT;
  ALTER TABLE updates ADD COLUMN peer TEXT;
  `,
];
