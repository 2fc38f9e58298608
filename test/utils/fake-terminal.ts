import type { Output } from '../../cli/context.ts';
import { columnsOf } from '../../cli/node-screen/columns.ts';

/** A terminal that understands the escape sequences of the CLI. It keeps all lines, also those above its window. */
export class FakeTerminal implements Output {
  readonly isTTY = true;
  readonly color = false;
  columns: number;
  readonly rows: number;
  writes = 0;
  #lines: string[] = [''];
  #row = 0;

  constructor(columns: number, rows: number) {
    this.columns = columns;
    this.rows = rows;
  }

  /** Lines without the empty line of the cursor. */
  get lines(): string[] {
    return this.#lines.at(-1) === '' ? this.#lines.slice(0, -1) : this.#lines;
  }

  /** Changes the width. Longer lines are wrapped. */
  resize(columns: number): void {
    const text = this.#lines.join('\n');
    this.columns = columns;
    this.#lines = [''];
    this.#row = 0;
    this.#print(text);
  }

  write(text: string): void {
    this.writes++;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the sequences of a terminal
    for (const part of text.split(/(\u001b\[\d*[A-Za-z])/)) {
      // biome-ignore lint/suspicious/noControlCharactersInRegex: the sequences of a terminal
      const [, count, code] = /^\u001b\[(\d*)([A-Za-z])$/.exec(part) ?? [];
      if (code === 'A') this.#row = Math.max(0, this.#row - Number(count));
      else if (code === 'J') this.#lines = [...this.#lines.slice(0, this.#row), ''];
      else if (code === 'K') this.#erase();
      else if (code === undefined) this.#print(part);
    }
  }

  #erase(): void {
    if (this.#overwrite) this.#lines[this.#row] = '';
  }

  #print(text: string): void {
    for (const character of text) {
      if (character === '\n') {
        this.#row++;
        this.#lines[this.#row] ??= '';
        this.#overwrite = true;
        continue;
      }
      if (character === '\r') {
        this.#overwrite = true;
        continue;
      }
      if (this.#overwrite) this.#lines[this.#row] = '';
      this.#overwrite = false;
      if (columnsOf(this.#lines[this.#row]! + character) > this.columns) {
        this.#row++;
        this.#lines.splice(this.#row, 0, '');
      }
      this.#lines[this.#row] += character;
    }
  }

  /** Whether the next character replaces the line. The CLI always rewrites whole lines. */
  #overwrite = false;
}
