import type { Role } from '../../protocol/requests/member-status.ts';
import type { Database, Row } from '../../storage/database.ts';
import { fromRow, updateRows } from './fields.ts';

export interface StoredPeer {
  readonly peer: string;
  readonly name: string;
  readonly agent: string;
  readonly engine: string;
  /** Speed in tokens per second, measured over whole rounds; 0 if the speed has not been measured. */
  readonly speed: number;
  readonly joinedAt: number;
  /** Whether an absent peer announced that it would leave. False if its heartbeats stopped without an announcement. */
  readonly saidGoodbye: boolean;
  /**
   * Time of the last sign of life of an absent peer. It is null if the peer is present, or was present when the
   * coordinator ended.
   */
  readonly seenAt: number | null;
  /** Id of the personal invite with which the peer joined; null if it joined without one. See `personOf`. */
  readonly invite: string | null;
  readonly role: Role;
}

/** Members of each job. */
export class PeerTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Adds or updates a member. A known member keeps its speed and the time when it first joined. */
  admit(job: string, peer: Omit<StoredPeer, 'speed' | 'saidGoodbye' | 'seenAt'>): void {
    this.#db.run(
      `INSERT INTO peers (job, peer, name, agent, engine, speed, joined_at, invite, role)
       VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?)
       ON CONFLICT DO UPDATE SET name = excluded.name, agent = excluded.agent, engine = excluded.engine,
         invite = excluded.invite, role = excluded.role`,
      job,
      peer.peer,
      peer.name,
      peer.agent,
      peer.engine,
      peer.joinedAt,
      peer.invite,
      peer.role,
    );
  }

  setPresence(
    job: string,
    peer: string,
    { saidGoodbye, seenAt }: Pick<StoredPeer, 'saidGoodbye' | 'seenAt'>,
  ): void {
    updateRows(this.#db, 'peers', { job, peer }, { saidGoodbye: saidGoodbye ? 1 : 0, seenAt });
  }

  setSpeed(job: string, peer: string, speed: number): void {
    updateRows(this.#db, 'peers', { job, peer }, { speed });
  }

  remove(job: string, peer: string): void {
    this.#db.run('DELETE FROM peers WHERE job = ? AND peer = ?', job, peer);
  }

  /** Keeps the name of a member that is removed for good, and the time when it joined with the shared invite. */
  keepFormer(job: string, { peer, name, invite, joinedAt }: StoredPeer): void {
    this.#db.run(
      `INSERT INTO removed_peers (job, peer, name, shared_at) VALUES (?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET name = excluded.name, shared_at = coalesce(shared_at, excluded.shared_at)`,
      job,
      peer,
      name,
      invite === null ? joinedAt : null,
    );
  }

  /** Returns the peers that joined a job with its shared invite, and were removed for good. The oldest one comes first. */
  formerShared(job: string): { peer: string; name: string; joinedAt: number }[] {
    const sql = `SELECT peer, name, shared_at AS joined_at FROM removed_peers
      WHERE job = ? AND shared_at IS NOT NULL ORDER BY shared_at, peer`;
    return this.#db.all(sql, job).map((row) => fromRow(row));
  }

  /** Returns the name of a peer that is a member of a job or was removed from one for good; null if it is unknown. */
  nameOf(peer: string): string | null {
    const member = this.#db.one('SELECT name FROM peers WHERE peer = ? LIMIT 1', peer);
    const row = member ?? this.#db.one('SELECT name FROM removed_peers WHERE peer = ? LIMIT 1', peer);
    return row && (row.name as string);
  }

  /** Returns peers that were removed from a job for good, with the names that they had there. */
  former(limit: number): { peer: string; name: string }[] {
    return this.#db
      .all('SELECT DISTINCT peer, name FROM removed_peers ORDER BY peer, name LIMIT ?', limit)
      .map(({ peer, name }) => ({ peer: String(peer), name: String(name) }));
  }

  find(job: string, peer: string): StoredPeer | null {
    const row = this.#db.one('SELECT * FROM peers WHERE job = ? AND peer = ?', job, peer);
    return row && readPeer(row);
  }

  all(job: string): StoredPeer[] {
    return this.#db.all('SELECT * FROM peers WHERE job = ? ORDER BY joined_at, peer', job).map(readPeer);
  }
}

function readPeer(row: Row): StoredPeer {
  return { ...fromRow<StoredPeer>(row), saidGoodbye: row.said_goodbye === 1 };
}
