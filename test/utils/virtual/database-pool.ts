import { Database, type Migration } from '../../../storage/database.ts';

/**
 * In-memory databases that one simulation after another uses. An emptied database is cheaper than a new one, because
 * its tables and its prepared statements exist already.
 */
export class DatabasePool {
  readonly #free = new Map<readonly Migration[], Database[]>();
  readonly #taken: { migrations: readonly Migration[]; database: Database }[] = [];

  /** Returns an empty database with this schema. */
  take(migrations: readonly Migration[]): Database {
    const database = this.#free.get(migrations)?.pop() ?? newDatabase(migrations);
    this.#taken.push({ migrations, database });
    return database;
  }

  /** Empties all databases, for the next simulation. */
  reuse(): void {
    for (const { migrations, database } of this.#taken.splice(0)) {
      empty(database);
      const free = this.#free.get(migrations) ?? [];
      free.push(database);
      this.#free.set(migrations, free);
    }
  }
}

function newDatabase(migrations: readonly Migration[]): Database {
  const database = new Database({ path: ':memory:', migrations });
  const filled = tablesOf(database).filter((table) => database.one(`SELECT 1 FROM "${table}"`) !== null);
  // `empty` would delete these rows.
  if (filled.length > 0) throw new Error(`the migrations fill the tables ${filled.join(', ')}`);
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
