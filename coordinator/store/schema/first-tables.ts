/** Migration that creates the tables of the first version. */
export const FIRST_TABLES = `
  CREATE TABLE jobs (
    job TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    content TEXT NOT NULL,          -- digest of the operator's choices; the same job, created again, has the same digest
    manifest BLOB NOT NULL,         -- signed
    layout TEXT NOT NULL,           -- JSON of the adapter's tensors
    term INTEGER NOT NULL,
    admission TEXT NOT NULL,        -- JSON
    token TEXT,                     -- token of the shared invite; NULL: there is none
    base_loss REAL,
    ending TEXT,                    -- JSON of a pause or stop that waits for the closed round
    created_at INTEGER NOT NULL
  ) STRICT;

  -- Held-out rows are not in the blob store, because peers can fetch blobs.
  CREATE TABLE held_out (job TEXT PRIMARY KEY REFERENCES jobs, bytes BLOB NOT NULL) STRICT;

  CREATE TABLE heads (
    job TEXT NOT NULL REFERENCES jobs,
    sequence INTEGER NOT NULL,
    envelope BLOB NOT NULL,         -- signed
    PRIMARY KEY (job, sequence)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE rounds (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,
    parent TEXT NOT NULL,           -- digest of the checkpoint from which the round starts
    preset TEXT NOT NULL,
    assignments TEXT NOT NULL,      -- JSON
    deadline_ms INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    closed_at INTEGER,
    outcome TEXT CHECK (outcome IN ('checkpoint', 'refused', 'short')),
    PRIMARY KEY (job, round)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE updates (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,
    peer TEXT NOT NULL,
    digest TEXT NOT NULL,           -- digest of the payload, which is in the blob store
    size INTEGER NOT NULL,
    preset TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    loss_last REAL NOT NULL,
    evidence BLOB NOT NULL,         -- the signed message without its inline payload
    arrived_at INTEGER NOT NULL,
    late INTEGER NOT NULL,          -- 1: the update arrived after its round had closed
    merge_round INTEGER,            -- the closed round whose merge takes the update; NULL: none yet
    fate TEXT NOT NULL DEFAULT 'open' CHECK (fate IN ('open', 'merged', 'left-out', 'null-round', 'outlier')),
    PRIMARY KEY (job, round, peer)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE receipts (
    id INTEGER PRIMARY KEY,
    job TEXT NOT NULL REFERENCES jobs,
    term INTEGER NOT NULL,
    round INTEGER NOT NULL,
    peer TEXT NOT NULL,
    digest TEXT NOT NULL,
    code TEXT NOT NULL,
    detail TEXT NOT NULL,
    issued_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX receipts_by_peer ON receipts (job, peer, id);

  CREATE TABLE checkpoints (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,
    digest TEXT NOT NULL,
    envelope BLOB NOT NULL,         -- signed
    residual TEXT,                  -- digest of the blob with the part of the merge that the delta left out
    PRIMARY KEY (job, round)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE events (
    job TEXT NOT NULL REFERENCES jobs,
    sequence INTEGER NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL,             -- JSON
    PRIMARY KEY (job, sequence)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE peers (
    job TEXT NOT NULL REFERENCES jobs,
    peer TEXT NOT NULL,
    name TEXT NOT NULL,
    agent TEXT NOT NULL,
    engine TEXT NOT NULL,
    speed REAL NOT NULL,            -- tokens per second over whole rounds; 0: not measured
    joined_at INTEGER NOT NULL,
    PRIMARY KEY (job, peer)
  ) STRICT, WITHOUT ROWID
  `;
