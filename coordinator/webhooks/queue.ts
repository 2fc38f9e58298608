import type { Database } from '../../storage/database.ts';
import { insertInto } from '../store/fields.ts';
import type { WebhookMessage } from './message.ts';
import type { LossMemory } from './news.ts';

/** Maximum number of messages that wait for one receiver. If more messages arrive, the oldest messages are dropped. */
export const QUEUE_MESSAGES = 1_000;

/** A message that waits for its delivery. */
export interface QueuedMessage extends WebhookMessage {
  /** Position of the message in the queue. */
  readonly place: number;
  readonly createdAt: number;
  /** Number of failed attempts to deliver the message so far. */
  readonly attempts: number;
  /** Time of the next attempt to deliver the message, in milliseconds since 1970. */
  readonly dueAt: number;
}

/** The position of a webhook in the event log of a job, and facts about the losses of the job. */
export interface WebhookCursor extends LossMemory {
  /** Sequence number of the newest event that was read. */
  readonly sequence: number;
}

/** The messages that wait for their delivery, and the positions of webhooks in the event logs of jobs. */
export class WebhookQueue {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Deletes the messages and positions of webhooks that are not among `targets`. */
  keepOnly(targets: readonly string[]): void {
    for (const table of ['webhook_messages', 'webhook_cursors']) {
      const known = this.#db
        .all(`SELECT DISTINCT target FROM ${table}`)
        .map(({ target }) => target as string);
      for (const target of known) {
        if (!targets.includes(target)) this.#db.run(`DELETE FROM ${table} WHERE target = ?`, target);
      }
    }
  }

  cursor(target: string, job: string): WebhookCursor | null {
    const row = this.#db.one('SELECT * FROM webhook_cursors WHERE target = ? AND job = ?', target, job);
    if (row === null) return null;
    return { sequence: row.sequence as number, lowest: row.lowest as number | null, isUp: row.is_up === 1 };
  }

  setCursor(target: string, job: string, { sequence, lowest, isUp }: WebhookCursor): void {
    this.#db.run(
      `INSERT INTO webhook_cursors (target, job, sequence, lowest, is_up) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET sequence = excluded.sequence, lowest = excluded.lowest, is_up = excluded.is_up`,
      target,
      job,
      sequence,
      lowest,
      isUp ? 1 : 0,
    );
  }

  /** Adds a message. @returns the number of older messages that were dropped, because the queue is full */
  add(target: string, { id, body }: WebhookMessage, now: number): number {
    insertInto(this.#db, 'webhook_messages', { target, id, body, createdAt: now, dueAt: now });
    return this.#db.run(
      `DELETE FROM webhook_messages WHERE target = ? AND place <= (
         SELECT place FROM webhook_messages WHERE target = ? ORDER BY place DESC LIMIT 1 OFFSET ?)`,
      target,
      target,
      QUEUE_MESSAGES,
    );
  }

  /** Returns the message whose attempt is due first, or the oldest of several such messages; null if none waits. */
  first(target: string): QueuedMessage | null {
    const row = this.#db.one(
      'SELECT * FROM webhook_messages WHERE target = ? ORDER BY due_at, place LIMIT 1',
      target,
    );
    if (row === null) return null;
    return {
      place: row.place as number,
      id: row.id as string,
      body: row.body as string,
      createdAt: row.created_at as number,
      attempts: row.attempts as number,
      dueAt: row.due_at as number,
    };
  }

  remove({ place }: QueuedMessage): void {
    this.#db.run('DELETE FROM webhook_messages WHERE place = ?', place);
  }

  /** Records a failed attempt. */
  retry({ place }: QueuedMessage, dueAt: number): void {
    this.#db.run(
      'UPDATE webhook_messages SET attempts = attempts + 1, due_at = ? WHERE place = ?',
      dueAt,
      place,
    );
  }

  /** Returns the number of messages that wait. */
  count(target: string): number {
    return this.#db.one('SELECT count(*) AS count FROM webhook_messages WHERE target = ?', target)!
      .count as number;
  }
}
