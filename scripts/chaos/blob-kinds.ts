import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { verifyMessage } from '../../protocol/signing.ts';

const NODE_USES = `
  SELECT digest, 'update' AS kind FROM updates WHERE outcome IS NULL
  UNION ALL SELECT feedback, 'error feedback' FROM jobs
  UNION ALL SELECT optimizer, 'optimiser' FROM jobs
  UNION ALL SELECT adapter, 'adapter' FROM jobs`;
const COORDINATOR_USES = `
  SELECT digest, CASE use WHEN 'job' THEN 'checkpoint' WHEN 'step' THEN 'delta' ELSE use END AS kind FROM blob_uses
  UNION ALL SELECT residual, 'residual' FROM checkpoints`;

/** Returns the kinds of the blobs of a stopped daemon, by digest, from its database. */
export function blobKinds(home: string): Map<string, string> {
  const role = existsSync(join(home, 'coordinator.sqlite')) ? 'coordinator' : 'node';
  const db = new DatabaseSync(join(home, `${role}.sqlite`), { readOnly: true });
  try {
    const isNode = role === 'node';
    const kinds = new Map<string, string>();
    for (const { digest, kind } of db.prepare(isNode ? NODE_USES : COORDINATOR_USES).all()) {
      if (digest !== null) kinds.set(String(digest), String(kind));
    }
    for (const { manifest } of db.prepare(`SELECT manifest FROM ${isNode ? 'kept_jobs' : 'jobs'}`).all()) {
      const { base, data } = verifyMessage('manifest', manifest as Uint8Array).message;
      for (const { digest, path } of base.files) kinds.set(digest, `base, ${path}`);
      for (const { digest } of data.shards) kinds.set(digest, 'data');
    }
    return kinds;
  } finally {
    db.close();
  }
}
