/** The tables of rounds: updates, receipts, checkpoints, events and scores. */
export const ROUND_TABLES = `
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
    -- Whether the scores of a merge were clear enough for strikes; NULL: the merge was not judged.
    scores_clear INTEGER,
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
  -- These indexes find the updates of one round among all updates of a job. Each round makes such queries.
  CREATE INDEX updates_by_merge ON updates (job, merge_round) WHERE merge_round IS NOT NULL;
  CREATE INDEX updates_unclaimed ON updates (job, round) WHERE fate = 'open' AND merge_round IS NULL;

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
  -- Any peer can ask for the receipt of any digest, so the query must be fast.
  CREATE INDEX receipts_by_update ON receipts (job, peer, digest, id);

  CREATE TABLE checkpoints (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,
    digest TEXT NOT NULL,
    envelope BLOB NOT NULL,         -- signed
    residual TEXT,                  -- digest of the blob with the part of the merge that the delta left out
    held_out_loss REAL,
    -- 'leaving': the weights are released, but may still be in the folder of the checkpoint.
    weights TEXT NOT NULL DEFAULT 'held' CHECK (weights IN ('held', 'leaving', 'gone')),
    -- Round of the checkpoint whose adapter a roll-back restored. NULL: the checkpoint is not a roll-back.
    restores INTEGER,
    -- Why a roll-back restored its checkpoint. NULL: the checkpoint is not a roll-back.
    restore_reason TEXT,
    PRIMARY KEY (job, round)
  ) STRICT, WITHOUT ROWID;
  -- Each view of a job shows the lowest loss and the newest roll-back.
  CREATE INDEX checkpoints_by_loss ON checkpoints (job, held_out_loss, round) WHERE held_out_loss IS NOT NULL;
  CREATE INDEX checkpoints_restored ON checkpoints (job, round) WHERE restores IS NOT NULL;

  CREATE TABLE events (
    job TEXT NOT NULL REFERENCES jobs,
    sequence INTEGER NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL,             -- JSON
    PRIMARY KEY (job, sequence)
  ) STRICT, WITHOUT ROWID;

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
    merge_round INTEGER NOT NULL,   -- the closed round whose merge includes the update or leaves it out
    round INTEGER NOT NULL,
    effect REAL,                    -- in nats per token, like the gain; NULL: not scored
    effect_error REAL,
    gain REAL,
    own_rows INTEGER NOT NULL,      -- number of rows of the author's interval on which the gain was measured
    share REAL,                     -- compares effect and gain with the medians of the round, 0 to 1; NULL: unknown
    belief REAL NOT NULL,           -- factor by which the weight of the update is multiplied, 0 to 1
    is_harmful INTEGER NOT NULL,    -- 1: the merge leaves the update out
    -- Decrease of the loss on random rows if the whole update is applied, in nats per token; NULL: not measured.
    exact REAL,
    -- Effect of a late update at the parent of the merge, and its standard error; NULL: not late, or not measured.
    late_effect REAL,
    late_error REAL,
    -- Shares of the author in earlier merges from which the belief was computed: JSON, see EarlierShare.
    earlier TEXT,
    PRIMARY KEY (job, peer, merge_round, round)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX scores_by_merge ON scores (job, merge_round, peer, round);
`;
