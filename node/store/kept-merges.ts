import { isSwarmError } from '../../common/errors.ts';
import { decodeCbor } from '../../protocol/cbor.ts';
import type { Database, Row } from '../../storage/database.ts';
import { encodeRecord } from '../../verify/bundle/encode.ts';
import { RECORD_BYTES, recordSchema } from '../../verify/bundle/format.ts';
import type { CheckpointRecord } from '../../verify/record.ts';

/**
 * Number of newest rounds of each job whose records a witness keeps. A record has about 2 KiB for each contributor. A
 * coordinator keeps payloads for 8 rounds too.
 */
const KEPT_ROUNDS = 8;
/**
 * Maximum size of a kept record. Proofs of 512 contributors have at most 2.5 MiB, scores 512 KiB and a checkpoint 128 KiB.
 * Without this limit, a hostile coordinator could fill the disk.
 */
const KEPT_BYTES = 4 * 1024 * 1024;

/**
 * The store of the records that a witness has checked: checkpoints with the proofs of their contributors, and scores. A
 * record does not say whether the witness found a problem.
 */
export class KeptMerges {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Stores a record, unless it is larger than any record of an honest coordinator. Leaves out the scores of null rounds,
   * because a node sends peers only the scores of merges.
   */
  keep(
    job: string,
    { round, digest, record }: { round: number; digest: string; record: CheckpointRecord },
  ): void {
    const { nullFigures: _, ...kept } = record;
    const encoded = encodeRecord(kept);
    if (encoded.byteLength > KEPT_BYTES) return;
    this.#db.transaction(() => {
      const sql = 'INSERT OR REPLACE INTO kept_merges (job, round, digest, record) VALUES (?, ?, ?, ?)';
      this.#db.run(sql, job, round, digest, encoded);
      this.#db.run(
        'DELETE FROM kept_merges WHERE job = ? AND round <= (SELECT max(round) FROM kept_merges WHERE job = ?) - ?',
        job,
        job,
        KEPT_ROUNDS,
      );
    });
  }

  /** Returns the record of the checkpoint with a digest. */
  find(job: string, digest: string): CheckpointRecord | null {
    return decoded(this.#db.one('SELECT record FROM kept_merges WHERE job = ? AND digest = ?', job, digest));
  }

  /** Returns the signed scores of the merge of a round. */
  figures(job: string, round: number): Uint8Array | null {
    const row = this.#db.one('SELECT record FROM kept_merges WHERE job = ? AND round = ?', job, round);
    return decoded(row)?.figures ?? null;
  }
}

function decoded(row: Row | null): CheckpointRecord | null {
  try {
    return row && decodeCbor(row.record as Uint8Array, recordSchema, RECORD_BYTES);
  } catch (error) {
    // Treat a damaged record as missing. The checkpoint itself is also kept elsewhere.
    if (!isSwarmError(error)) throw error;
    return null;
  }
}
