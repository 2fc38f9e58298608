import type { Database, Row } from '../../storage/database.ts';

/** Lists blobs as ones that no row may need any more, or yet; to be called in the transaction that makes it so. */
export function markUnused(db: Database, ...digests: (Row[string] | undefined)[]): void {
  for (const digest of digests)
    if (typeof digest === 'string') db.run('INSERT OR IGNORE INTO loose (digest) VALUES (?)', digest);
}

export function ensureJob(db: Database, job: string): void {
  db.run('INSERT OR IGNORE INTO jobs (job) VALUES (?)', job);
}
