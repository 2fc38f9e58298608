import { verifyMessage } from '../../../protocol/signing.ts';
import type { Database } from '../../../storage/database.ts';
import { BlobTable, jobBlobs } from '../blobs.ts';

const TABLES = `
  -- The blobs that jobs need, and why (see BlobUse).
  CREATE TABLE blob_uses (
    job TEXT NOT NULL REFERENCES jobs,
    use TEXT NOT NULL CHECK (use IN ('job', 'adapter', 'step', 'update')),
    round INTEGER NOT NULL,         -- 0: the job needs the blob in all rounds
    digest TEXT NOT NULL,
    PRIMARY KEY (job, use, round, digest)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX blob_uses_by_digest ON blob_uses (digest);

  -- Blobs that may be in the blob store although no row needs them: they were released, or their row is not written yet.
  CREATE TABLE loose_blobs (digest TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

  ALTER TABLE checkpoints ADD COLUMN held_out_loss REAL;
  -- 'leaving': the weights are released, but may still be in the folder of the checkpoint.
  ALTER TABLE checkpoints ADD COLUMN weights TEXT NOT NULL DEFAULT 'held'
    CHECK (weights IN ('held', 'leaving', 'gone'));

  -- The round in which the operator last resumed the job. Earlier refused rounds no longer count as refusals in a row.
  ALTER TABLE jobs ADD COLUMN resumed_round INTEGER NOT NULL DEFAULT 0
`;

/** Creates the tables of blobs and fills them from the rows of a store of schema version 1. */
export function listBlobs(db: Database): void {
  db.exec(TABLES);
  const blobs = new BlobTable(db);
  for (const row of db.all('SELECT job, manifest FROM jobs')) {
    const job = row.job as string;
    blobs.use(job, 'job', 0, jobBlobs(verifyMessage('manifest', row.manifest as Uint8Array).message));
  }
  for (const row of db.all('SELECT * FROM checkpoints')) {
    const { job, round } = row as { job: string; round: number };
    const { message } = verifyMessage('checkpoint', row.envelope as Uint8Array);
    const residual = row.residual as string | null;
    blobs.use(job, 'job', 0, [row.digest as string]);
    blobs.use(job, 'adapter', round, [message.adapter.digest]);
    blobs.use(
      job,
      'step',
      round,
      [message.delta?.digest, residual].filter((digest) => typeof digest === 'string'),
    );
    const loss = message.metrics.heldOutLoss;
    db.run('UPDATE checkpoints SET held_out_loss = ? WHERE job = ? AND round = ?', loss, job, round);
  }
  for (const row of db.all('SELECT job, round, digest FROM updates')) {
    blobs.use(row.job as string, 'update', row.round as number, [row.digest as string]);
  }
}
