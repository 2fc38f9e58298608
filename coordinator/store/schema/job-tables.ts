/** Migrations of the tables of jobs: updates, checkpoints, keys, settings, tasks, the queue and sweeps. */

export const UPDATE_INDEXES = `
  -- These indexes find the updates of one round among all updates of a job. Each round makes such queries.
  CREATE INDEX updates_by_merge ON updates (job, merge_round) WHERE merge_round IS NOT NULL;
  CREATE INDEX updates_unclaimed ON updates (job, round) WHERE fate = 'open' AND merge_round IS NULL;
  -- Any peer can ask for the receipt of any digest, so the query must be fast.
  CREATE INDEX receipts_by_update ON receipts (job, peer, digest, id)
  `;

export const ROLL_BACKS = `
  -- Round of the checkpoint whose adapter a roll-back restored. NULL: the checkpoint is not a roll-back.
  ALTER TABLE checkpoints ADD COLUMN restores INTEGER;
  -- Each view of a job shows the lowest loss and the newest roll-back.
  CREATE INDEX checkpoints_by_loss ON checkpoints (job, held_out_loss, round) WHERE held_out_loss IS NOT NULL;
  CREATE INDEX checkpoints_restored ON checkpoints (job, round) WHERE restores IS NOT NULL
  `;

export const ROLL_BACK_REQUESTS = `
  -- Round of the checkpoint that the operator wants to restore; NULL: no such request.
  ALTER TABLE jobs ADD COLUMN roll_back_to INTEGER
  `;

export const ROLL_BACK_REASONS = `
  -- Reason that the operator gave for the roll-back in roll_back_to.
  ALTER TABLE jobs ADD COLUMN roll_back_reason TEXT;
  -- Why a roll-back restored its checkpoint. NULL: the checkpoint is not a roll-back, or an older version made it.
  ALTER TABLE checkpoints ADD COLUMN restore_reason TEXT
  `;

export const STOP_ORDERS = `
  -- Reason of the operator's order to stop a job that lacks later heads of its nodes; NULL: no such order.
  ALTER TABLE jobs ADD COLUMN stop_order TEXT
  `;

export const STOP_PROOFS = `
  -- The newest of these heads at the time of the order, as a node has proven it. NULL: no such order.
  ALTER TABLE jobs ADD COLUMN stop_proof BLOB;
  -- An order without a proof cannot be carried out safely, so its operator gives it again.
  UPDATE jobs SET stop_order = NULL
  `;

export const JOB_KEYS = `
  -- Secret keys. A job of an older version gets its keys when the coordinator starts.
  CREATE TABLE job_keys (
    job TEXT PRIMARY KEY REFERENCES jobs,
    seal BLOB NOT NULL,             -- private key that opens updates and heartbeats
    key_id INTEGER NOT NULL,
    key BLOB NOT NULL               -- encrypts heads
  ) STRICT, WITHOUT ROWID
  `;

export const QUEUE = `
  -- The place of a job in the queue. Jobs with a higher priority come first.
  ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
  -- Digest of the job that a queued job waits for; NULL: the job is not queued.
  ALTER TABLE jobs ADD COLUMN after_job TEXT
  `;

export const JOB_SETTINGS = `
  -- Changes of a job's settings. Each change is signed, and contains the digest of the previous change.
  CREATE TABLE job_settings (
    job TEXT NOT NULL REFERENCES jobs,
    sequence INTEGER NOT NULL,      -- number of the change; the first is 1
    digest TEXT NOT NULL,
    envelope BLOB NOT NULL,         -- signed
    PRIMARY KEY (job, sequence)
  ) STRICT, WITHOUT ROWID
  `;

export const JOB_SAMPLES = `
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
  ) STRICT, WITHOUT ROWID
  `;

export const JOB_TASKS = `
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
  ) STRICT, WITHOUT ROWID
  `;

export const SWEEPS = `
  -- Sweeps: comparisons of jobs by successive halving.
  CREATE TABLE sweeps (
    name TEXT PRIMARY KEY,
    rounds INTEGER NOT NULL,        -- number of checkpoints of each job before the first halving
    halvings INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE sweep_jobs (
    sweep TEXT NOT NULL REFERENCES sweeps,
    job TEXT NOT NULL REFERENCES jobs,
    variant TEXT NOT NULL,
    out_at INTEGER,                 -- number of the halving that stopped the job; NULL: the job is still compared
    loss REAL,                      -- held-out loss at the newest halving
    UNIQUE (sweep, job)
  ) STRICT
  `;

export const FAILED_SWEEPS = `
  -- 1: the sweep ended without a winner.
  ALTER TABLE sweeps ADD COLUMN failed INTEGER NOT NULL DEFAULT 0
  `;

export const PAUSE_CAUSES = `
  -- Why the job is paused, see PauseCause. NULL: the job is not paused, or an older version paused it.
  ALTER TABLE jobs ADD COLUMN pause_cause TEXT
  `;
