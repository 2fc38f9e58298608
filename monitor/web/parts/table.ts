import { html } from 'htm/preact';
import { useState } from 'preact/hooks';

/** Number of rows on one page of a table. More rows at once would make the page slow with a thousand peers. */
const PAGE_ROWS = 50;

/** A column of a table. */
export interface Column<T> {
  /** Heading, unlike those of the other columns. A cell, and so a dialog in it, stays when other columns come or go. */
  readonly title: string;
  /** Content of a cell: a text, or an element. */
  readonly cell: (row: T) => unknown;
  /** Value that the column is sorted by. @default the column cannot be sorted */
  readonly by?: (row: T) => number | string;
  /** Whether the cells are numbers, which are aligned to the right. @default false */
  readonly numeric?: boolean;
  /** Whether the cells are texts of any length, which break so that they do not push other columns aside. @default false */
  readonly long?: boolean;
}

interface TableProps<T> {
  readonly caption: string;
  readonly columns: readonly Column<T>[];
  readonly rows: readonly T[];
  readonly id: (row: T) => string;
  /** Text of a row that the filter searches. @default there is no filter */
  readonly text?: (row: T) => string;
  /** Text that is shown if the table has no rows. */
  readonly empty: string;
}

/** A table that can be sorted, filtered and paged. */
export function Table<T>({ caption, columns, rows, id, text, empty }: TableProps<T>) {
  const [sort, setSort] = useState<{ column: number; down: boolean } | null>(null);
  const [filter, setFilter] = useState('');
  const [page, setPage] = useState(0);
  const words = filter.toLowerCase();
  const found = text && words !== '' ? rows.filter((row) => text(row).toLowerCase().includes(words)) : rows;
  const by = sort === null ? undefined : columns[sort.column]?.by;
  const sorted = by ? [...found].sort((a, b) => compare(by(a), by(b)) * (sort!.down ? -1 : 1)) : found;
  const pages = Math.max(1, Math.ceil(sorted.length / PAGE_ROWS));
  const at = Math.min(page, pages - 1);
  const shown = sorted.slice(at * PAGE_ROWS, (at + 1) * PAGE_ROWS);
  const sortBy = (column: number): void => {
    setSort(sort?.column === column ? { column, down: !sort.down } : { column, down: false });
    setPage(0);
  };
  if (rows.length === 0) return html`<p class="quiet">${empty}</p>`;
  return html`<div class="table">
    ${
      text &&
      rows.length > 5 &&
      html`<label class="filter"
        >Filter
        <input
          type="search"
          value=${filter}
          onInput=${(event: InputEvent) => {
            setFilter((event.target as HTMLInputElement).value);
            setPage(0);
          }}
        /></label>`
    }
    <div class="scroll" role="region" aria-label=${caption} tabindex="0">
      <table>
        <caption>
          ${caption}${found.length < rows.length && html` (${found.length} of ${rows.length})`}
        </caption>
        <thead>
          <tr>
            ${columns.map(
              ({ title, by, numeric }, i) => html`<th
                key=${title}
                scope="col"
                class=${numeric ? 'number' : ''}
                aria-sort=${sort?.column === i ? (sort.down ? 'descending' : 'ascending') : undefined}
              >
                ${
                  by
                    ? html`<button type="button" class="plain" onClick=${() => sortBy(i)}>
                        ${title}${sort?.column === i ? (sort.down ? ' ▼' : ' ▲') : ''}
                      </button>`
                    : title
                }
              </th>`,
            )}
          </tr>
        </thead>
        <tbody>
          ${shown.map(
            (row) => html`<tr key=${id(row)}>
              ${columns.map((column) => html`<td key=${column.title} class=${classOf(column)}>${column.cell(row)}</td>`)}
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
    ${
      pages > 1 &&
      html`<nav class="pages" aria-label="Pages of ${caption}">
        <button type="button" disabled=${at === 0} onClick=${() => setPage(at - 1)}>Previous</button>
        <span>page ${at + 1} of ${pages}</span>
        <button type="button" disabled=${at === pages - 1} onClick=${() => setPage(at + 1)}>Next</button>
      </nav>`
    }
  </div>`;
}

function classOf({ numeric, long }: { numeric?: boolean; long?: boolean }): string {
  if (numeric) return 'number';
  return long ? 'long' : '';
}

function compare(a: number | string, b: number | string): number {
  return typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b));
}
