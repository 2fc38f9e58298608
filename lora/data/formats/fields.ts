/** Error for a record that cannot be used. The reader reports the record as a `BadRow`. */
export class RowProblem extends Error {
  readonly code: string;
  constructor(code: string, reason: string) {
    super(reason);
    this.code = code;
  }
}

export type RowValue = Readonly<Record<string, unknown>>;

/** Column of each field, as chosen by the user. */
export type Columns = Readonly<Record<string, string>>;

/** Looks up the fields of a record in the columns that hold them. */
export class Fields {
  readonly #row: RowValue;
  readonly #columns: Columns;

  constructor(row: RowValue, columns: Columns) {
    this.#row = row;
    this.#columns = columns;
  }

  /** Returns the column of a field: the one that the user named, or the first of `usual` that the record has. */
  column(field: string, usual: readonly string[] = [field]): string {
    return this.#columns[field] ?? usual.find((name) => present(this.#row[name])) ?? usual[0]!;
  }

  /** Returns the value of a field; null if the record has none. */
  value(field: string, usual?: readonly string[]): unknown {
    return this.#row[this.column(field, usual)] ?? null;
  }

  /** Returns a text field. @throws RowProblem ROW_FIELD if it is missing or not text */
  text(field: string): string {
    const value = this.value(field);
    if (typeof value === 'string') return value;
    throw this.#wrong(field, value, 'text');
  }

  /** Returns a text field, or null if it is missing or empty. @throws RowProblem ROW_FIELD if it is not text */
  optionalText(field: string): string | null {
    const value = this.value(field);
    if (value === null || value === '') return null;
    return this.text(field);
  }

  /** Returns a list field. A text column may hold the list as JSON. @throws RowProblem ROW_FIELD */
  list(field: string, usual?: readonly string[]): unknown[] {
    const value = listOf(this.value(field, usual));
    if (value !== null) return value;
    throw this.#wrong(field, this.value(field, usual), 'a list', usual);
  }

  /** Returns a list field like `list`, or null if it is missing or empty. */
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

/** Returns the value if it is a list, or the list that a text holds as JSON; null for any other value. */
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
