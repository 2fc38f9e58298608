/** Migrations of the tables from which the coordinator decides how far it trusts nodes: scores, strikes, bans, audits. */

export const LIKENESSES = `
  -- Pairs of merged updates of two nodes. One of them seemed to be a copy of the other.
  CREATE TABLE likenesses (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,
    earlier TEXT NOT NULL,          -- author of the update that was recorded first
    later TEXT NOT NULL,
    cosine REAL NOT NULL,
    overlap REAL,
    PRIMARY KEY (job, round, earlier, later)
  ) STRICT, WITHOUT ROWID
  `;

export const CONFLICTS = `
  -- Pairs of different updates that one node signed for one round. Every peer can verify this proof.
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
  `;

export const SCORES = `
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
    PRIMARY KEY (job, peer, merge_round, round)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX scores_by_merge ON scores (job, merge_round, peer, round)
  `;

export const STRIKES_AND_BANS = `
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
    round INTEGER NOT NULL,         -- the round of the misdeed
    found_in INTEGER NOT NULL,      -- the round that was the newest when the misdeed was found
    digest TEXT,                    -- digest of the update's payload
    figures TEXT NOT NULL,          -- JSON
    at INTEGER NOT NULL,
    pardoned_at INTEGER,            -- time at which the operator pardoned the person; NULL: not pardoned
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
    until INTEGER,                  -- NULL: the ban never ends
    pardoned_at INTEGER
  ) STRICT;
  CREATE INDEX bans_by_peer ON bans (peer);
  CREATE INDEX bans_by_person ON bans (person)
  `;

export const EXACT_EFFECTS = `
  -- Decrease of the loss on random rows if the whole update is applied, in nats per token; NULL: not measured.
  ALTER TABLE scores ADD COLUMN exact REAL
  `;

export const SCORE_SOURCES = `
  -- Effect of a late update at the parent of the merge, and its standard error; NULL: not late, or not measured.
  ALTER TABLE scores ADD COLUMN late_effect REAL;
  ALTER TABLE scores ADD COLUMN late_error REAL;
  -- Shares of the author in earlier merges from which the belief was computed: JSON, see EarlierShare. NULL: an older
  -- version scored the update.
  ALTER TABLE scores ADD COLUMN earlier TEXT
  `;

export const AUDITS = `
  -- Audits of updates, and updates that may still be chosen for an audit. See StoredAudit in audits.ts.
  CREATE TABLE audits (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,         -- the round in which the update was trained
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
    trained INTEGER NOT NULL,       -- number of rows of all merged updates of the job up to this round
    PRIMARY KEY (job, round)
  ) STRICT, WITHOUT ROWID;

  -- The table blob_uses with the further use 'audit'. SQLite cannot change a CHECK, so the table is made again.
  CREATE TABLE new_blob_uses (
    job TEXT NOT NULL REFERENCES jobs,
    use TEXT NOT NULL CHECK (use IN ('job', 'adapter', 'step', 'update', 'audit')),
    round INTEGER NOT NULL,         -- 0: the job needs the blob in all rounds
    digest TEXT NOT NULL,
    PRIMARY KEY (job, use, round, digest)
  ) STRICT, WITHOUT ROWID;
  INSERT INTO new_blob_uses SELECT job, use, round, digest FROM blob_uses;
  DROP TABLE blob_uses;
  ALTER TABLE new_blob_uses RENAME TO blob_uses;
  CREATE INDEX blob_uses_by_digest ON blob_uses (digest)
  `;

export const BAD_PAYLOADS = `
  -- Refused updates whose payloads do not decode. They are deleted when they are judged at the end of a round.
  CREATE TABLE bad_payloads (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,         -- the round in which the update was trained
    peer TEXT NOT NULL,
    digest TEXT NOT NULL,           -- digest of the payload
    PRIMARY KEY (job, round, peer)
  ) STRICT, WITHOUT ROWID
  `;
