export const WEBHOOKS = `
  -- Messages to receivers of webhooks that are not delivered yet. \`target\` is the digest of the receiver's URL.
  CREATE TABLE webhook_messages (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    target TEXT NOT NULL,
    id TEXT NOT NULL,               -- of the message, for the receiver
    body TEXT NOT NULL,             -- JSON
    attempts INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX webhook_messages_due ON webhook_messages (target, due_at, place);

  -- How far the messages of a webhook follow the events of a job, and what the next message depends on.
  CREATE TABLE webhook_cursors (
    target TEXT NOT NULL,
    job TEXT NOT NULL REFERENCES jobs,
    sequence INTEGER NOT NULL,      -- of the newest event that was read
    lowest REAL,                    -- held-out loss
    is_up INTEGER NOT NULL,         -- 1: a message said that the loss is above the lowest one
    PRIMARY KEY (target, job)
  ) STRICT, WITHOUT ROWID
`;
