import type { Database } from '../../storage/database.ts';
import { fromRow, insertInto } from './fields.ts';

/**
 * `proof`: a peer signed two different updates of one round. `strikes`: the person was suspended too often. `operator`:
 * the operator decided to ban the person.
 */
type BanCause = 'proof' | 'strikes' | 'operator';

/** The ban of a person. */
export interface StoredBan {
  readonly id: number;
  /** The peer that was banned. All other peers of `person`, who answers for this peer, are banned too. */
  readonly peer: string;
  readonly person: string;
  /** The job from which the person is banned; null for all jobs of the coordinator. */
  readonly job: string | null;
  readonly cause: BanCause;
  /** Human-readable reason for the ban. */
  readonly reason: string;
  readonly at: number;
  /** Time at which the ban ends; null if it never ends. */
  readonly until: number | null;
  /** Time at which the operator lifted the ban; null if it was not lifted. */
  readonly pardonedAt: number | null;
}

type NewBan = Omit<StoredBan, 'id' | 'pardonedAt'>;

/**
 * Condition for rows that do not repeat another row. An older version recorded a ban from all jobs once for each job, and
 * again for the peer without its person.
 */
const NO_REPETITION = `NOT EXISTS (
  SELECT 1 FROM bans AS other
  WHERE other.peer = bans.peer AND other.job IS bans.job AND other.cause = bans.cause
    AND other.reason = bans.reason AND other.until IS bans.until AND other.pardoned_at IS bans.pardoned_at
    AND (other.person = bans.person AND other.id < bans.id
      OR bans.person = bans.peer AND other.person <> other.peer))`;

/** Bans of all jobs. */
export class BanTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  insert(ban: NewBan): void {
    insertInto(this.#db, 'bans', { ...ban });
  }

  /**
   * Records a ban, unless the same ban of the peer is recorded already. The ban of a peer without an invite is the same as
   * the ban of the peer with its person.
   */
  insertOnce(ban: NewBan): void {
    const isSame = (other: StoredBan): boolean =>
      other.pardonedAt === null &&
      other.peer === ban.peer &&
      (other.person === ban.person || ban.person === ban.peer) &&
      (['job', 'cause', 'reason', 'until'] as const).every((field) => other[field] === ban[field]);
    if (!this.of(ban).some(isSame)) this.insert(ban);
  }

  /** Returns whether a ban of a peer was recorded with this time. */
  has({ peer, at }: Pick<StoredBan, 'peer' | 'at'>): boolean {
    return this.#db.one('SELECT 1 FROM bans WHERE peer = ? AND at = ?', peer, at) !== null;
  }

  /**
   * Returns the ban that keeps a person out of a job for the longest time; null if the person may take part.
   * @param now milliseconds since 1970
   */
  find(job: string, { peer, person }: { peer: string; person: string }, now: number): StoredBan | null {
    const row = this.#db.one(
      `SELECT * FROM bans WHERE (peer = ? OR person = ?) AND (job IS NULL OR job = ?)
         AND pardoned_at IS NULL AND (until IS NULL OR until > ?)
       ORDER BY until IS NULL DESC, until DESC, id LIMIT 1`,
      peer,
      person,
      job,
      now,
    );
    return row && fromRow(row);
  }

  /** Returns the newest bans that are in force, newest first. @param now milliseconds since 1970 */
  inForce(now: number, limit: number): StoredBan[] {
    return this.#db
      .all(
        `SELECT * FROM bans WHERE pardoned_at IS NULL AND (until IS NULL OR until > ?) AND ${NO_REPETITION}
         ORDER BY id DESC LIMIT ?`,
        now,
        limit,
      )
      .map((row) => fromRow(row));
  }

  /**
   * Returns the bans that apply to a job now. The operator's bans come first, then the bans of persons with a personal
   * invite, then all others; each group has the newest ban first. Throw-away identities therefore cannot displace bans
   * of the operator.
   * @param now milliseconds since 1970
   */
  applyingTo(job: string, now: number, limit: number): StoredBan[] {
    return this.#db
      .all(
        `SELECT * FROM bans WHERE (job IS NULL OR job = ?)
           AND pardoned_at IS NULL AND (until IS NULL OR until > ?) AND ${NO_REPETITION}
         ORDER BY cause = 'operator' DESC, person <> peer DESC, id DESC LIMIT ?`,
        job,
        now,
        limit,
      )
      .map((row) => fromRow(row));
  }

  /** Returns all bans of a person, including bans that are over, oldest first. */
  of({ peer, person }: { peer: string; person: string }): StoredBan[] {
    return this.#db
      .all(`SELECT * FROM bans WHERE (peer = ? OR person = ?) AND ${NO_REPETITION} ORDER BY id`, peer, person)
      .map((row) => fromRow(row));
  }

  /**
   * Returns the bans that a pardon of a person lifts now, oldest first.
   * @param job the job whose bans the pardon lifts; null for all bans of the person
   * @param now milliseconds since 1970
   */
  pardonable(who: { peer: string; person: string }, job: string | null, now: number): StoredBan[] {
    return this.of(who).filter(
      (ban) =>
        ban.pardonedAt === null &&
        (ban.until === null || ban.until > now) &&
        (job === null || ban.job === job),
    );
  }

  /** Lifts the bans of a person. @param job the job whose bans are lifted; null for all bans of the person */
  pardon(who: { peer: string; person: string }, job: string | null, at: number): void {
    this.#db.run(
      `UPDATE bans SET pardoned_at = ? WHERE (peer = ? OR person = ?) AND pardoned_at IS NULL
         AND (until IS NULL OR until > ?) AND (? IS NULL OR job = ?)`,
      at,
      who.peer,
      who.person,
      at,
      job,
      job,
    );
  }
}
