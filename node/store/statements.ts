import type { Database, Row } from '../../storage/database.ts';

/**
 * Adds blobs to the table `loose`, which lists blobs that may be unneeded. Call this in the transaction that removes
 * the digests of the blobs from a row.
 */
export function markUnused(db: Database, ...digests: (Row[string] | undefined)[]): void {
  for (const digest of digests)
    if (typeof digest === 'string') db.run('INSERT OR IGNORE INTO loose (digest) VALUES (?)', digest);
}

export function ensureJob(db: Database, job: string): void {
  db.run('INSERT OR IGNORE INTO jobs (job) VALUES (?)', job);
}
