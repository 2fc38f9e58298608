export const WEBHOOKS = `
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
  ) STRICT, WITHOUT ROWID
`;
