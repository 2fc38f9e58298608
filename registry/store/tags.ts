import type { Database } from '../../storage/database.ts';

/** One line of the log of a tag. */
export interface TagChange {
  readonly tag: string;
  /** `rollback` undoes the newest change that is not undone yet; `delete` removes the tag. */
  readonly kind: 'set' | 'rollback' | 'delete';
  /** Number of the version that the tag named before; null if the tag is new. */
  readonly from: number | null;
  /** Number of the version that the tag names now; null after `delete`. */
  readonly to: number | null;
  /** Time of the change, in milliseconds since 1970. */
  readonly at: number;
  /** Peer id of the machine that changed the tag. */
  readonly author: string;
  /** Reason why the tag was moved, in a few words. */
  readonly reason: string;
}

/** The log of all tags. Rows can only be added. Triggers of the database refuse changes and deletions. */
export class TagTable {
  readonly #db: Database;

  constructor({ db }: { db: Database }) {
    this.#db = db;
  }

  /** Returns the number of the version that a tag names; null if there is no such tag. */
  current(name: string, tag: string): number | null {
    const sql = 'SELECT to_number FROM tag_log WHERE name = ? AND tag = ? ORDER BY id DESC LIMIT 1';
    const row = this.#db.one(sql, name, tag);
    return row === null || row.to_number === null ? null : Number(row.to_number);
  }

  /** Returns the tags of a name, each with the number of its version, sorted by tag. */
  all(name: string): Map<string, number> {
    const sql = `SELECT tag, to_number FROM tag_log WHERE id IN
      (SELECT MAX(id) FROM tag_log WHERE name = ? GROUP BY tag) AND to_number IS NOT NULL ORDER BY tag`;
    return new Map(this.#db.all(sql, name).map(({ tag, to_number }) => [String(tag), Number(to_number)]));
  }

  /** Returns the changes of a name's tags, oldest first. @param tag the tag; null for all tags */
  log(name: string, tag: string | null = null): TagChange[] {
    const sql = 'SELECT * FROM tag_log WHERE name = ? AND (? IS NULL OR tag = ?) ORDER BY id';
    return this.#db.all(sql, name, tag, tag).map((row) => ({
      tag: String(row.tag),
      kind: String(row.kind) as TagChange['kind'],
      from: row.from_number === null ? null : Number(row.from_number),
      to: row.to_number === null ? null : Number(row.to_number),
      at: Number(row.at),
      author: String(row.author),
      reason: String(row.reason),
    }));
  }

  append(name: string, { tag, kind, from, to, at, author, reason }: TagChange): void {
    const sql = `INSERT INTO tag_log (name, tag, kind, from_number, to_number, at, author, reason)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?)`;
    this.#db.run(sql, name, tag, kind, from, to, at, author, reason);
  }
}

/**
 * Returns the numbers of the versions that a tag has named, as a stack. The last number is the current version, and a
 * roll-back removes it. A second roll-back therefore goes one step further back instead of undoing the first.
 */
export function tagStack(log: readonly Pick<TagChange, 'kind' | 'to'>[]): number[] {
  const stack: number[] = [];
  for (const { kind, to } of log) {
    if (kind === 'rollback') while (stack.length > 0 && stack.at(-1) !== to) stack.pop();
    else if (kind === 'set' && to !== null) stack.push(to);
  }
  return stack;
}
