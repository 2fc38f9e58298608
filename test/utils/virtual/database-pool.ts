import { Database, type DatabaseOptions } from '../../../storage/database.ts';

/**
 * In-memory databases that one simulation after another uses. An emptied database is cheaper than a new one, because
 * its tables and its prepared statements exist already.
 */
export class DatabasePool {
  readonly #free = new Map<DatabaseOptions['schema'], Database[]>();
  readonly #taken: { schema: DatabaseOptions['schema']; database: Database }[] = [];

  /** Returns an empty database with this schema. */
  take(schema: DatabaseOptions['schema']): Database {
    const database = this.#free.get(schema)?.pop() ?? newDatabase(schema);
    this.#taken.push({ schema, database });
    return database;
  }

  /** Empties all databases, for the next simulation. */
  reuse(): void {
    for (const { schema, database } of this.#taken.splice(0)) {
      empty(database);
      const free = this.#free.get(schema) ?? [];
      free.push(database);
      this.#free.set(schema, free);
    }
  }
}

function newDatabase(schema: DatabaseOptions['schema']): Database {
  const database = new Database({ path: ':memory:', schema });
  const filled = tablesOf(database).filter((table) => database.one(`SELECT 1 FROM "${table}"`) !== null);
  // `empty` would delete these rows.
  if (filled.length > 0) throw new Error(`the schema fills the tables ${filled.join(', ')}`);
  return database;
}

function empty(database: Database): void {
  database.exec('PRAGMA foreign_keys = OFF');
  for (const table of tablesOf(database)) database.run(`DELETE FROM "${table}"`);
  database.exec('PRAGMA foreign_keys = ON');
}

function tablesOf(database: Database): string[] {
  return database.all("SELECT name FROM sqlite_master WHERE type = 'table'").map(({ name }) => String(name));
}
