/** Migrations of the tables of peers and their invites. */

export const GOODBYES = `
  -- 1 if the peer told the coordinator that it left.
  ALTER TABLE peers ADD COLUMN said_goodbye INTEGER NOT NULL DEFAULT 0
  `;

export const PEER_ROLES = `
  -- Id of the personal invite with which the peer joined; NULL without one.
  ALTER TABLE peers ADD COLUMN invite TEXT;
  ALTER TABLE peers ADD COLUMN role TEXT NOT NULL DEFAULT 'contributor'
    CHECK (role IN ('contributor', 'observer', 'operator'))
  `;

export const REMOVED_PEERS = `
  -- Names of members that were removed after a ban or a revoked invite. Lists of bans and invites show these names.
  CREATE TABLE removed_peers (
    job TEXT NOT NULL REFERENCES jobs,
    peer TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (job, peer)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX removed_peers_by_peer ON removed_peers (peer)
  `;

export const INVITES = `
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

  -- The revoked shared invite: the time of its revocation, and the digest of its token, which is deleted.
  ALTER TABLE jobs ADD COLUMN shared_revoked_at INTEGER;
  ALTER TABLE jobs ADD COLUMN shared_digest TEXT
  `;

export const SHARED_INVITE_USES = `
  -- Time when the removed peer joined with the shared invite; NULL: it joined with a personal invite.
  ALTER TABLE removed_peers ADD COLUMN shared_at INTEGER;
  UPDATE removed_peers SET shared_at = joined.at
    FROM (SELECT job, json_extract(body, '$.peer') AS peer, min(at) AS at FROM events
      WHERE json_extract(body, '$.type') = 'peer-joined' GROUP BY 1, 2) AS joined
    WHERE joined.job = removed_peers.job AND joined.peer = removed_peers.peer AND NOT EXISTS
      (SELECT 1 FROM invite_peers AS used WHERE used.job = removed_peers.job AND used.peer = removed_peers.peer)
  `;

export const LAST_SIGNS = `
  -- Time of the last sign of life of an absent peer. NULL: the peer is present, or was present when the coordinator ended.
  ALTER TABLE peers ADD COLUMN seen_at INTEGER;
  UPDATE peers SET seen_at = max(joined_at, coalesce(
    (SELECT max(issued_at) FROM receipts WHERE receipts.job = peers.job AND receipts.peer = peers.peer), 0))
  `;
