/** Looking things up in a row: by our name of a field, in the column that holds it. */

/** Thrown for a row that cannot be used; becomes a BadRow. */
export class RowProblem extends Error {
  readonly code: string;
  constructor(code: string, reason: string) {
    super(reason);
    this.code = code;
  }
}

export type RowValue = Readonly<Record<string, unknown>>;

/** Our names of fields to the columns that the user says hold them. */
export type Columns = Readonly<Record<string, string>>;

/** A row, and which of its columns is which field. */
export class Fields {
  readonly #row: RowValue;
  readonly #columns: Columns;

  constructor(row: RowValue, columns: Columns) {
    this.#row = row;
    this.#columns = columns;
  }

  /** Column of a field: the one that was named, else the first of `usual` that the row has. */
  column(field: string, usual: readonly string[] = [field]): string {
    return this.#columns[field] ?? usual.find((name) => present(this.#row[name])) ?? usual[0]!;
  }

  /** Value of a field; null where there is none. */
  value(field: string, usual?: readonly string[]): unknown {
    return this.#row[this.column(field, usual)] ?? null;
  }

  /** @throws RowProblem ROW_FIELD when it is missing or no text */
  text(field: string): string {
    const value = this.value(field);
    if (typeof value === 'string') return value;
    throw this.#wrong(field, value, 'text');
  }

  /** null where there is none, or only an empty text. @throws RowProblem ROW_FIELD when it is no text */
  optionalText(field: string): string | null {
    const value = this.value(field);
    if (value === null || value === '') return null;
    return this.text(field);
  }

  /** A list, also one that is written as JSON in a text column. @throws RowProblem ROW_FIELD */
  list(field: string, usual?: readonly string[]): unknown[] {
    const value = listOf(this.value(field, usual));
    if (value !== null) return value;
    throw this.#wrong(field, this.value(field, usual), 'a list', usual);
  }

  /** As `list`; null where there is none. */
  optionalList(field: string): unknown[] | null {
    const value = this.value(field);
    if (value === null || value === '') return null;
    return this.list(field);
  }

  #wrong(field: string, value: unknown, expected: string, usual?: readonly string[]): RowProblem {
    const column = this.column(field, usual);
    const found = value === null ? 'is missing' : `is ${describe(value)}, not ${expected}`;
    return new RowProblem('ROW_FIELD', `"${column}" ${found}`);
  }
}

/** A list, or the list that a text column holds as JSON; else null. */
export function listOf(value: unknown): unknown[] | null {
  if (Array.isArray(value)) return value;
  if (typeof value !== 'string' || !value.trimStart().startsWith('[')) return null;
  try {
    const parsed: unknown = JSON.parse(value);
    return Array.isArray(parsed) ? parsed : null;
  } catch {
    return null;
  }
}

export function isObject(value: unknown): value is RowValue {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function describe(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  return typeof value === 'string' ? 'text' : `the ${typeof value} ${String(value).slice(0, 40)}`;
}

function present(value: unknown): boolean {
  return value !== null && value !== undefined;
}
