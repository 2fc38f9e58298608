import type { StrikeKind } from '../../protocol/api/job-events.ts';
import type { Database, Row } from '../../storage/database.ts';
import { fromRow, insertInto } from './fields.ts';

/** A recorded misdeed of a person, with its evidence. */
export interface StoredStrike {
  readonly peer: string;
  /** The person who answers for the peer. See `personOf`. */
  readonly person: string;
  readonly kind: StrikeKind;
  /** The round of the misdeed. If the misdeed is an update, this is the round in which it was trained. */
  readonly round: number;
  /** The round that was the newest when the coordinator found the misdeed. */
  readonly foundIn: number;
  /** Digest of the update's payload; null for a misdeed that is not a single update. */
  readonly digest: string | null;
  /** Figures that show the misdeed, for example effect and standard error. */
  readonly figures: Readonly<Record<string, number>>;
  readonly at: number;
  /** Time at which the operator pardoned the person; null if the strike still counts. */
  readonly pardonedAt: number | null;
}

/** An update whose payload does not decode. */
export type BadPayload = Pick<StoredStrike, 'peer' | 'round'> & { readonly digest: string };

const STRIKE = 'peer, person, kind, round, found_in, digest, figures, at, pardoned_at';

/** Strikes of each job. */
export class StrikeTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Adds a strike. Returns false if the same misdeed is recorded already. */
  insert(job: string, strike: Omit<StoredStrike, 'pardonedAt'>): boolean {
    const known = 'SELECT 1 FROM strikes WHERE job = ? AND peer = ? AND round = ? AND kind = ?';
    if (this.#db.one(known, job, strike.peer, strike.round, strike.kind) !== null) return false;
    // Leave out figures that are not finite, because JSON cannot hold them.
    const figures = Object.entries(strike.figures).filter(([, value]) => Number.isFinite(value));
    const stored = { ...strike, figures: JSON.stringify(Object.fromEntries(figures)) };
    insertInto(this.#db, 'strikes', { job, ...stored });
    return true;
  }

  /** Remembers an update whose payload does not decode, until a round ends. Keeps only the first per peer and round. */
  noteBadPayload(job: string, { peer, round, digest }: BadPayload): void {
    const sql = 'INSERT OR IGNORE INTO bad_payloads (job, round, peer, digest) VALUES (?, ?, ?, ?)';
    this.#db.run(sql, job, round, peer, digest);
  }

  /** Returns the updates whose payloads do not decode, and forgets them. */
  takeBadPayloads(job: string): BadPayload[] {
    const rows = this.#db.all('SELECT * FROM bad_payloads WHERE job = ? ORDER BY round, peer', job);
    if (rows.length > 0) this.#db.run('DELETE FROM bad_payloads WHERE job = ?', job);
    return rows.map((row) => fromRow(row));
  }

  /**
   * Returns the strikes of a person in the order of recording. Includes strikes of the peer from the time when another
   * person answered for it.
   */
  of(job: string, { peer, person }: { peer: string; person: string }): StoredStrike[] {
    return this.#db
      .all(
        `SELECT ${STRIKE} FROM strikes WHERE job = ? AND (person = ? OR peer = ?) ORDER BY id`,
        job,
        person,
        peer,
      )
      .map(readStrike);
  }

  /** Returns all peers and persons with a strike that was not pardoned. */
  struck(job: string): Set<string> {
    const rows = this.#db.all(
      `SELECT peer AS who FROM strikes WHERE job = ? AND pardoned_at IS NULL
       UNION SELECT person FROM strikes WHERE job = ? AND pardoned_at IS NULL`,
      job,
      job,
    );
    return new Set(rows.map(({ who }) => who as string));
  }

  /** Marks the strikes of a person as pardoned, so that they no longer count. Returns the number of these strikes. */
  pardon(job: string, { peer, person }: { peer: string; person: string }, at: number): number {
    const counting = this.of(job, { peer, person }).filter(({ pardonedAt }) => pardonedAt === null);
    this.#db.run(
      'UPDATE strikes SET pardoned_at = ? WHERE job = ? AND (person = ? OR peer = ?) AND pardoned_at IS NULL',
      at,
      job,
      person,
      peer,
    );
    return counting.length;
  }
}

function readStrike(row: Row): StoredStrike {
  const figures = JSON.parse(row.figures as string) as StoredStrike['figures'];
  return { ...fromRow<Omit<StoredStrike, 'figures'>>(row), figures };
}
