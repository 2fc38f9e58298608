import type { Output } from '../context.ts';
import { columnsOf, cut } from './columns.ts';

/** The last lines of a terminal, which are drawn again and again in the same place. */
export class LiveArea {
  readonly #output: Output;
  #shown: readonly string[] = [];
  #columns = 0;

  constructor(output: Output) {
    this.#output = output;
  }

  /** Replaces the lines. Lines that do not fit into the terminal are cut, and lines below its last row are left out. */
  draw(lines: readonly string[]): void {
    const { columns, rows } = this.#output;
    // The cursor is in the row below the lines. A line of the full width would wrap in some terminals.
    const fitted = lines.slice(0, Math.max(1, rows - 1)).map((line) => cut(line, columns - 1));
    const isSame = fitted.length === this.#shown.length && fitted.every((line, i) => line === this.#shown[i]);
    if (isSame && columns === this.#columns) return;
    const text = fitted.map((line) => `${line}\u001b[K\n`).join('');
    // Writes everything in one call, so that the terminal never shows a half-drawn area.
    this.#output.write(`${this.#toTop()}${text}\u001b[J`);
    this.#shown = fitted;
    this.#columns = columns;
  }

  /** Removes the lines. The next output starts where the first of them was. */
  clear(): void {
    if (this.#shown.length > 0) this.#output.write(`${this.#toTop()}\u001b[J`);
    this.#shown = [];
  }

  /** Returns the text that moves the cursor to the first row of the area. */
  #toTop(): string {
    const { columns, rows } = this.#output;
    // A terminal that became narrower has wrapped the lines, so they take more rows now.
    const used = this.#shown.map((line) => Math.max(1, Math.ceil(columnsOf(line) / columns)));
    const up = Math.min(
      rows - 1,
      used.reduce((sum, lines) => sum + lines, 0),
    );
    return up > 0 ? `\u001b[${up}A\r` : '\r';
  }
}
