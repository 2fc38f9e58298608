import type { Migration } from '../../storage/database.ts';
import { listBlobs } from './blob-migration.ts';

/**
 * The store's schema, one entry per version. A released entry never changes. Times are in milliseconds since the epoch,
 * digests are in lower-case hex, and peers are peer ids. Signed messages are kept with their signatures.
 */
export const MIGRATIONS: readonly Migration[] = [
  `
  CREATE TABLE jobs (
    job TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    content TEXT NOT NULL,          -- digest of everything that the operator chose: tells a repetition from a conflict
    manifest BLOB NOT NULL,         -- signed
    layout TEXT NOT NULL,           -- JSON of the adapter's tensors
    term INTEGER NOT NULL,
    admission TEXT NOT NULL,        -- JSON
    token TEXT,                     -- of invites
    base_loss REAL,
    ending TEXT,                    -- JSON of a pause or stop that waits for the closed round
    created_at INTEGER NOT NULL
  ) STRICT;

  -- Held-out data stays out of the blob store: that is open to every peer.
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
    parent TEXT NOT NULL,           -- checkpoint that it starts from
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
    digest TEXT NOT NULL,           -- of the payload, which is in the blob store
    size INTEGER NOT NULL,
    preset TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    loss_last REAL NOT NULL,
    evidence BLOB NOT NULL,         -- the signed message without its inline payload
    arrived_at INTEGER NOT NULL,
    late INTEGER NOT NULL,          -- 1 when it arrived after its round had closed
    merge_round INTEGER,            -- the closed round whose merge has it
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
    residual TEXT,                  -- blob: what the delta's quantisation has left over, for the next round
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
    speed REAL NOT NULL,            -- tokens per second over whole rounds, 0 while unmeasured
    joined_at INTEGER NOT NULL,
    PRIMARY KEY (job, peer)
  ) STRICT, WITHOUT ROWID
  `,
  listBlobs,
  `
  -- 1: it left, as opposed to fell silent.
  ALTER TABLE peers ADD COLUMN said_goodbye INTEGER NOT NULL DEFAULT 0
  `,
  `
  -- Merged updates of two nodes that were as alike as an update and its copy.
  CREATE TABLE likenesses (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,
    earlier TEXT NOT NULL,          -- peers, by which update was recorded first
    later TEXT NOT NULL,
    cosine REAL NOT NULL,
    overlap REAL,
    PRIMARY KEY (job, round, earlier, later)
  ) STRICT, WITHOUT ROWID
  `,
  `
  -- Asked for in every round, among all updates that a job has ever had.
  CREATE INDEX updates_by_merge ON updates (job, merge_round) WHERE merge_round IS NOT NULL;
  CREATE INDEX updates_unclaimed ON updates (job, round) WHERE fate = 'open' AND merge_round IS NULL;
  -- Asked for by anybody, for any digest.
  CREATE INDEX receipts_by_update ON receipts (job, peer, digest, id)
  `,
  `
  -- Two different updates of one round by one node, as proof for everybody.
  CREATE TABLE conflicts (
    job TEXT NOT NULL REFERENCES jobs,
    peer TEXT NOT NULL,
    round INTEGER NOT NULL,
    first BLOB NOT NULL,            -- signed, in the order of arrival
    second BLOB NOT NULL,
    complete INTEGER NOT NULL,      -- 0: inline payloads were removed, as in the column updates.evidence
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (job, peer, round)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX conflicts_by_round ON conflicts (job, round, peer)
  `,
  `
  -- Random bytes that chose the rows for a round's scores. Drawn after the round had closed.
  CREATE TABLE scorings (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,
    seed BLOB NOT NULL,
    PRIMARY KEY (job, round)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE scores (
    job TEXT NOT NULL REFERENCES jobs,
    peer TEXT NOT NULL,
    merge_round INTEGER NOT NULL,   -- the closed round whose merge has the update
    round INTEGER NOT NULL,
    effect REAL,                    -- nats per token, as the gain; NULL: not scored
    effect_error REAL,
    gain REAL,
    own_rows INTEGER NOT NULL,      -- rows of the author's interval that the gain was measured on
    share REAL,                     -- of the believed nodes' medians, 0 to 1; NULL: unknown
    belief REAL NOT NULL,           -- factor of the weight
    is_harmful INTEGER NOT NULL,    -- 1: the merge leaves it out
    PRIMARY KEY (job, peer, merge_round, round)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX scores_by_merge ON scores (job, merge_round, peer, round)
  `,
  `
  -- Id of the personal invite with which the peer joined; NULL without one.
  ALTER TABLE peers ADD COLUMN invite TEXT;
  ALTER TABLE peers ADD COLUMN role TEXT NOT NULL DEFAULT 'contributor'
    CHECK (role IN ('contributor', 'observer', 'operator'))
  `,
  `
  -- Personal invites. A text with the token is printed once; only the token's digest is kept.
  CREATE TABLE invites (
    job TEXT NOT NULL REFERENCES jobs,
    id TEXT NOT NULL,               -- random, no secret
    name TEXT,
    role TEXT NOT NULL CHECK (role IN ('contributor', 'observer', 'operator')),
    uses INTEGER NOT NULL,          -- number of peers that may be bound to it
    created_at INTEGER NOT NULL,
    expires_at INTEGER,             -- no peer is bound after this time; NULL: never expires
    revoked_at INTEGER,
    token_digest TEXT NOT NULL,     -- SHA-256
    PRIMARY KEY (job, id)
  ) STRICT, WITHOUT ROWID;

  -- Peers that have used a personal invite. A peer stays bound when it loses its place in the job.
  CREATE TABLE invite_peers (
    job TEXT NOT NULL,
    invite TEXT NOT NULL,
    peer TEXT NOT NULL,
    bound_at INTEGER NOT NULL,
    PRIMARY KEY (job, invite, peer),
    FOREIGN KEY (job, invite) REFERENCES invites
  ) STRICT, WITHOUT ROWID;

  -- Of the revoked shared invite. Its token is deleted.
  ALTER TABLE jobs ADD COLUMN shared_revoked_at INTEGER;
  ALTER TABLE jobs ADD COLUMN shared_digest TEXT
  `,
  `
  -- Of a roll-back: the earlier round whose checkpoint has the same adapter. NULL: the checkpoint is a merge, or the first.
  ALTER TABLE checkpoints ADD COLUMN restores INTEGER;
  -- Asked for with every view of a job.
  CREATE INDEX checkpoints_by_loss ON checkpoints (job, held_out_loss, round) WHERE held_out_loss IS NOT NULL;
  CREATE INDEX checkpoints_restored ON checkpoints (job, round) WHERE restores IS NOT NULL
  `,
  `
  -- Round of the checkpoint that the operator wants to restore; NULL: no such request.
  ALTER TABLE jobs ADD COLUMN roll_back_to INTEGER
  `,
  `
  -- Nothing has used this table since copy detection was removed (decision 063).
  DROP TABLE likenesses;

  -- Whether the scores of a merge were clear enough for strikes; NULL: the merge was not judged.
  ALTER TABLE rounds ADD COLUMN scores_clear INTEGER;

  -- Misdeeds of persons. A strike is never deleted.
  CREATE TABLE strikes (
    id INTEGER PRIMARY KEY,
    job TEXT NOT NULL REFERENCES jobs,
    peer TEXT NOT NULL,
    person TEXT NOT NULL,           -- who answers for the peer: the peer id, or "invite:" and the id of its invite
    kind TEXT NOT NULL,
    round INTEGER NOT NULL,         -- of the misdeed
    found_in INTEGER NOT NULL,      -- the newest round when it was found
    digest TEXT,                    -- of the update's payload
    figures TEXT NOT NULL,          -- JSON
    at INTEGER NOT NULL,
    pardoned_at INTEGER,            -- the strike does not count any more
    UNIQUE (job, peer, round, kind)
  ) STRICT;
  CREATE INDEX strikes_by_person ON strikes (job, person);

  CREATE TABLE bans (
    id INTEGER PRIMARY KEY,
    peer TEXT NOT NULL,
    person TEXT NOT NULL,
    job TEXT REFERENCES jobs,       -- NULL: all jobs
    cause TEXT NOT NULL CHECK (cause IN ('proof', 'strikes', 'operator')),
    reason TEXT NOT NULL,
    at INTEGER NOT NULL,
    until INTEGER,                  -- NULL: for good
    pardoned_at INTEGER
  ) STRICT;
  CREATE INDEX bans_by_peer ON bans (peer);
  CREATE INDEX bans_by_person ON bans (person)
  `,
  `
  -- Secret keys. A job of an older version gets its keys when the coordinator starts.
  CREATE TABLE job_keys (
    job TEXT PRIMARY KEY REFERENCES jobs,
    seal BLOB NOT NULL,             -- private key that opens updates and heartbeats
    key_id INTEGER NOT NULL,
    key BLOB NOT NULL               -- encrypts heads
  ) STRICT, WITHOUT ROWID
  `,
  `
  -- Decrease of the loss on random rows if the whole update is applied, in nats per token; NULL: not measured.
  ALTER TABLE scores ADD COLUMN exact REAL
  `,
  `
  -- Updates that are trained again, or may be. See StoredAudit in audits.ts.
  CREATE TABLE audits (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,         -- the round that the update was trained for
    peer TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('held', 'chosen', 'passed', 'failed', 'dropped')),
    key REAL NOT NULL,
    merge_round INTEGER NOT NULL,
    chosen_round INTEGER,
    decided_round INTEGER,
    rows INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    closeness REAL,
    balance REAL,
    seconds REAL,
    reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job, round, peer)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX audits_by_state ON audits (job, state);
  CREATE INDEX audits_by_peer ON audits (job, peer, round);
  CREATE INDEX audits_by_merge ON audits (job, merge_round);

  -- Random bytes that chose the audits. Drawn when a round ended with a checkpoint.
  CREATE TABLE audit_draws (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,
    seed BLOB NOT NULL,
    trained INTEGER NOT NULL,       -- rows of all merged updates of the job up to this round
    PRIMARY KEY (job, round)
  ) STRICT, WITHOUT ROWID;

  -- The same table with the use 'audit'.
  CREATE TABLE new_blob_uses (
    job TEXT NOT NULL REFERENCES jobs,
    use TEXT NOT NULL CHECK (use IN ('job', 'adapter', 'step', 'update', 'audit')),
    round INTEGER NOT NULL,         -- 0 for what the job needs in all of them
    digest TEXT NOT NULL,
    PRIMARY KEY (job, use, round, digest)
  ) STRICT, WITHOUT ROWID;
  INSERT INTO new_blob_uses SELECT job, use, round, digest FROM blob_uses;
  DROP TABLE blob_uses;
  ALTER TABLE new_blob_uses RENAME TO blob_uses;
  CREATE INDEX blob_uses_by_digest ON blob_uses (digest)
  `,
  `
  -- Updates whose payloads do not decode, until a round ends and judges them. A refused update has no other row.
  CREATE TABLE bad_payloads (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,         -- of the update
    peer TEXT NOT NULL,
    digest TEXT NOT NULL,           -- of the payload
    PRIMARY KEY (job, round, peer)
  ) STRICT, WITHOUT ROWID
  `,
  `
  -- The place of a job in the queue. Jobs with a higher priority come first.
  ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
  -- Digest of the job that a queued job waits for; NULL: the job is not queued.
  ALTER TABLE jobs ADD COLUMN after_job TEXT
  `,
  `
  -- Changes of a job's settings. Each is signed, and names the one before it by its digest.
  CREATE TABLE job_settings (
    job TEXT NOT NULL REFERENCES jobs,
    sequence INTEGER NOT NULL,      -- from 1
    digest TEXT NOT NULL,
    envelope BLOB NOT NULL,         -- signed
    PRIMARY KEY (job, sequence)
  ) STRICT, WITHOUT ROWID
  `,
  `
  -- Tasks on which the checkpoints of a job are evaluated.
  CREATE TABLE job_tasks (
    job TEXT PRIMARY KEY REFERENCES jobs,
    settings TEXT NOT NULL          -- JSON, see JobTasks
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE task_results (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,         -- of the checkpoint
    figures TEXT,                   -- JSON; NULL: the evaluation failed
    score REAL,                     -- the chosen metric, or its negative if lower values are better; NULL: none is chosen
    reason TEXT NOT NULL,           -- of a failure
    seconds REAL NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (job, round)
  ) STRICT, WITHOUT ROWID
  `,
  `
  -- Sweeps: comparisons of jobs by successive halving.
  CREATE TABLE sweeps (
    name TEXT PRIMARY KEY,
    rounds INTEGER NOT NULL,        -- checkpoints before the first halving
    halvings INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE sweep_jobs (
    sweep TEXT NOT NULL REFERENCES sweeps,
    job TEXT NOT NULL REFERENCES jobs,
    variant TEXT NOT NULL,
    out_at INTEGER,                 -- number of the halving that stopped the job; NULL: the job is still compared
    loss REAL,                      -- at the newest halving
    UNIQUE (sweep, job)
  ) STRICT
  `,
  `
  -- 1: the sweep ended without a winner.
  ALTER TABLE sweeps ADD COLUMN failed INTEGER NOT NULL DEFAULT 0
  `,
];
