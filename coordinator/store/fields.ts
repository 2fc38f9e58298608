/** Converts rows of the database to objects and back. The column `found_in` becomes the field `foundIn`. */
import type { SQLInputValue } from 'node:sqlite';
import type { Database, Row } from '../../storage/database.ts';

/** Caches of converted names. `fieldOf` maps a column's name to its field's name, and `columnOf` maps it back. */
const fieldOf = new Map<string, string>();
const columnOf = new Map<string, string>();

/** Returns a row as an object with a field for each column. The caller knows the type of these fields. */
export function fromRow<T extends object>(row: Row): T {
  const fields: Record<string, unknown> = {};
  for (const column in row) fields[camelCase(column)] = row[column];
  return fields as T;
}

/** Inserts an object as a row. Each field is a column of the table. */
export function insertInto(
  db: Database,
  table: string,
  fields: Readonly<Record<string, SQLInputValue>>,
): void {
  const columns = Object.keys(fields).map(snakeCase);
  const values = Object.values(fields);
  const places = values.map(() => '?');
  db.run(`INSERT INTO ${table} (${columns.join(', ')}) VALUES (${places.join(', ')})`, ...values);
}

/** Updates the rows that match `key`. Each field of `key` is a column, and must have the given value. */
export function updateRows(
  db: Database,
  table: string,
  key: Readonly<Record<string, SQLInputValue>>,
  changes: Readonly<Record<string, SQLInputValue>>,
): void {
  const [set, where] = [changes, key].map((fields) =>
    Object.keys(fields).map((field) => `${snakeCase(field)} = ?`),
  );
  const sql = `UPDATE ${table} SET ${set!.join(', ')} WHERE ${where!.join(' AND ')}`;
  db.run(sql, ...Object.values(changes), ...Object.values(key));
}

function camelCase(column: string): string {
  const known = fieldOf.get(column);
  if (known !== undefined) return known;
  const field = column.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  fieldOf.set(column, field);
  return field;
}

function snakeCase(field: string): string {
  const known = columnOf.get(field);
  if (known !== undefined) return known;
  const column = field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  columnOf.set(field, column);
  return column;
}
