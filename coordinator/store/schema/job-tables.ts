/** The tables of jobs: settings, keys, tasks, samples, sweeps, blobs and webhooks. */
export const JOB_TABLES = `
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
    created_at INTEGER NOT NULL,
    -- The round in which the operator last resumed the job. Earlier refused rounds no longer count as refusals in a row.
    resumed_round INTEGER NOT NULL DEFAULT 0,
    -- Round of the checkpoint that the operator wants to restore; NULL: no such request.
    roll_back_to INTEGER,
    -- Reason that the operator gave for the roll-back in roll_back_to.
    roll_back_reason TEXT,
    -- Reason of the operator's order to stop a job that lacks later heads of its nodes; NULL: no such order.
    stop_order TEXT,
    -- The newest of these heads at the time of the order, as a node has proven it. NULL: no such order.
    stop_proof BLOB,
    -- The place of a job in the queue. Jobs with a higher priority come first.
    priority INTEGER NOT NULL DEFAULT 0,
    -- Digest of the job that a queued job waits for; NULL: the job is not queued.
    after_job TEXT,
    -- Why the job is paused, see PauseCause. NULL: the job is not paused.
    pause_cause TEXT,
    -- The revoked shared invite: the time of its revocation, and the digest of its token, which is deleted.
    shared_revoked_at INTEGER,
    shared_digest TEXT
  ) STRICT;

  -- Held-out rows are not in the blob store, because peers can fetch blobs.
  CREATE TABLE held_out (job TEXT PRIMARY KEY REFERENCES jobs, bytes BLOB NOT NULL) STRICT;

  -- Secret keys.
  CREATE TABLE job_keys (
    job TEXT PRIMARY KEY REFERENCES jobs,
    seal BLOB NOT NULL,             -- private key that opens updates and heartbeats
    key_id INTEGER NOT NULL,
    key BLOB NOT NULL               -- encrypts heads
  ) STRICT, WITHOUT ROWID;

  -- Changes of a job's settings. Each change is signed, and contains the digest of the previous change.
  CREATE TABLE job_settings (
    job TEXT NOT NULL REFERENCES jobs,
    sequence INTEGER NOT NULL,      -- number of the change; the first is 1
    digest TEXT NOT NULL,
    envelope BLOB NOT NULL,         -- signed
    PRIMARY KEY (job, sequence)
  ) STRICT, WITHOUT ROWID;

  -- Prompts that the base and checkpoints of a job continue.
  CREATE TABLE job_samples (
    job TEXT PRIMARY KEY REFERENCES jobs,
    settings TEXT NOT NULL          -- JSON, see JobSamples
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE samples (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,         -- of the checkpoint
    texts TEXT,                     -- JSON, see SampleText; NULL: generating failed
    reason TEXT NOT NULL,           -- of a failure
    seconds REAL NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (job, round)
  ) STRICT, WITHOUT ROWID;

  -- Tasks on which the checkpoints of a job are evaluated.
  CREATE TABLE job_tasks (
    job TEXT PRIMARY KEY REFERENCES jobs,
    settings TEXT NOT NULL          -- JSON, see JobTasks
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE task_results (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,         -- of the checkpoint
    figures TEXT,                   -- JSON; NULL: the evaluation failed
    score REAL,                     -- the chosen metric, or its negative if lower values are better; NULL: no metric
    reason TEXT NOT NULL,           -- of a failure
    seconds REAL NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (job, round)
  ) STRICT, WITHOUT ROWID;

  -- Sweeps: comparisons of jobs by successive halving.
  CREATE TABLE sweeps (
    name TEXT PRIMARY KEY,
    rounds INTEGER NOT NULL,        -- number of checkpoints of each job before the first halving
    halvings INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    -- 1: the sweep ended without a winner.
    failed INTEGER NOT NULL DEFAULT 0
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE sweep_jobs (
    sweep TEXT NOT NULL REFERENCES sweeps,
    job TEXT NOT NULL REFERENCES jobs,
    variant TEXT NOT NULL,
    out_at INTEGER,                 -- number of the halving that stopped the job; NULL: the job is still compared
    loss REAL,                      -- held-out loss at the newest halving
    UNIQUE (sweep, job)
  ) STRICT;

  -- The blobs that jobs need, and why (see BlobUse).
  CREATE TABLE blob_uses (
    job TEXT NOT NULL REFERENCES jobs,
    use TEXT NOT NULL CHECK (use IN ('job', 'adapter', 'step', 'update', 'audit')),
    round INTEGER NOT NULL,         -- 0: the job needs the blob in all rounds
    digest TEXT NOT NULL,
    PRIMARY KEY (job, use, round, digest)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX blob_uses_by_digest ON blob_uses (digest);

  -- Blobs that may be in the blob store although no row needs them: they were released, or their row is not written yet.
  CREATE TABLE loose_blobs (digest TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

  -- Messages of webhooks that are not delivered yet. \`target\` is the digest of the receiver's URL.
  CREATE TABLE webhook_messages (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    target TEXT NOT NULL,
    id TEXT NOT NULL,               -- id of the message, which the receiver sees
    body TEXT NOT NULL,             -- JSON
    attempts INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX webhook_messages_due ON webhook_messages (target, due_at, place);

  -- For each webhook and job: the newest event that was read, and facts on which the next message depends.
  CREATE TABLE webhook_cursors (
    target TEXT NOT NULL,
    job TEXT NOT NULL REFERENCES jobs,
    sequence INTEGER NOT NULL,      -- number of the newest event that was read
    lowest REAL,                    -- lowest held-out loss since the newest roll-back; NULL: none was measured
    is_up INTEGER NOT NULL,         -- 1: a message has reported that the loss is above the lowest loss
    PRIMARY KEY (target, job)
  ) STRICT, WITHOUT ROWID;
`;
