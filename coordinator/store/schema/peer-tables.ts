/** The tables of peers: members, invites, misdeeds, bans and audits. */
export const PEER_TABLES = `
  CREATE TABLE peers (
    job TEXT NOT NULL REFERENCES jobs,
    peer TEXT NOT NULL,
    name TEXT NOT NULL,
    agent TEXT NOT NULL,
    engine TEXT NOT NULL,
    speed REAL NOT NULL,            -- tokens per second over whole rounds; 0: not measured
    joined_at INTEGER NOT NULL,
    -- 1 if the peer told the coordinator that it left.
    said_goodbye INTEGER NOT NULL DEFAULT 0,
    -- Id of the personal invite with which the peer joined; NULL without one.
    invite TEXT,
    role TEXT NOT NULL DEFAULT 'contributor' CHECK (role IN ('contributor', 'observer', 'operator')),
    -- Time of the last sign of life of an absent peer. NULL: the peer is present, or was present when the coordinator ended.
    seen_at INTEGER,
    PRIMARY KEY (job, peer)
  ) STRICT, WITHOUT ROWID;

  -- Names of members that were removed after a ban or a revoked invite. Lists of bans and invites show these names.
  CREATE TABLE removed_peers (
    job TEXT NOT NULL REFERENCES jobs,
    peer TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Time when the removed peer joined with the shared invite; NULL: it joined with a personal invite.
    shared_at INTEGER,
    PRIMARY KEY (job, peer)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX removed_peers_by_peer ON removed_peers (peer);

  -- Personal invites. The token is shown only once, in the text of the invite. The store keeps only its digest.
  CREATE TABLE invites (
    job TEXT NOT NULL REFERENCES jobs,
    id TEXT NOT NULL,               -- random, not secret
    name TEXT,
    role TEXT NOT NULL CHECK (role IN ('contributor', 'observer', 'operator')),
    uses INTEGER NOT NULL,          -- number of peers that may be bound to the invite
    created_at INTEGER NOT NULL,
    expires_at INTEGER,             -- no peer is bound after this time; NULL: never expires
    revoked_at INTEGER,
    token_digest TEXT NOT NULL,     -- SHA-256 of the token
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
  CREATE INDEX conflicts_by_round ON conflicts (job, round, peer);

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
  CREATE INDEX bans_by_person ON bans (person);

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

  -- Refused updates whose payloads do not decode. They are deleted when they are judged at the end of a round.
  CREATE TABLE bad_payloads (
    job TEXT NOT NULL REFERENCES jobs,
    round INTEGER NOT NULL,         -- the round in which the update was trained
    peer TEXT NOT NULL,
    digest TEXT NOT NULL,           -- digest of the payload
    PRIMARY KEY (job, round, peer)
  ) STRICT, WITHOUT ROWID;
`;
