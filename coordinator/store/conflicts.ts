import type { Database } from '../../storage/database.ts';
import { fromRow, insertInto } from './fields.ts';

/** Two different updates of one round, signed by the same node. */
export interface StoredConflict {
  readonly round: number;
  readonly peer: string;
  /** The signed updates in the order of their arrival. */
  readonly first: Uint8Array;
  readonly second: Uint8Array;
  /**
   * Whether the stored bytes suffice to verify both signatures. This is false if inline payloads were removed because
   * of the limit PROOF_BYTES.
   */
  readonly complete: boolean;
  readonly recordedAt: number;
}

/** Proofs that nodes signed two different updates for one round. */
export class ConflictTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  insert(job: string, conflict: StoredConflict): void {
    insertInto(this.#db, 'conflicts', { job, ...conflict, complete: conflict.complete ? 1 : 0 });
  }

  has(job: string, round: number, peer: string): boolean {
    const sql = 'SELECT 1 FROM conflicts WHERE job = ? AND peer = ? AND round = ?';
    return this.#db.one(sql, job, peer, round) !== null;
  }

  /** Returns the nodes that signed two updates for a round. */
  peersOf(job: string, round: number): string[] {
    return this.#db
      .all('SELECT peer FROM conflicts WHERE job = ? AND round = ? ORDER BY peer', job, round)
      .map(({ peer }) => peer as string);
  }

  /** Returns a node's conflicts, oldest round first. */
  ofPeer(job: string, peer: string): StoredConflict[] {
    return this.#db
      .all('SELECT * FROM conflicts WHERE job = ? AND peer = ? ORDER BY round', job, peer)
      .map((row) => ({ ...fromRow<StoredConflict>(row), complete: row.complete === 1 }));
  }

  /** Returns whether the store has a complete proof that a node signed two different updates for a round. */
  isProven(job: string, peer: string): boolean {
    const sql = 'SELECT 1 FROM conflicts WHERE job = ? AND peer = ? AND complete = 1 LIMIT 1';
    return this.#db.one(sql, job, peer) !== null;
  }

  /** Returns the size of all proofs of a job in bytes. */
  bytes(job: string): number {
    const sql = 'SELECT sum(length(first) + length(second)) AS bytes FROM conflicts WHERE job = ?';
    return (this.#db.one(sql, job)?.bytes as number | null) ?? 0;
  }
}
