/** Texts that fit into the columns of a terminal. */

/** Characters that take two columns in most terminals: East Asian wide characters and emoji. */
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u;
/** Characters that are drawn over the character before them. */
const COMBINING = /\p{M}/u;

/** Returns the number of columns that a text takes in a terminal. */
export function columnsOf(text: string): number {
  let columns = 0;
  for (const character of text) columns += COMBINING.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
  return columns;
}

/** Shortens a text to a number of columns; "…" replaces the rest. */
export function cut(text: string, columns: number): string {
  if (columnsOf(text) <= columns) return text;
  let kept = '';
  let used = 1;
  for (const character of text) {
    used += columnsOf(character);
    if (used > columns) break;
    kept += character;
  }
  return columns > 0 ? `${kept}…` : '';
}

/** Shortens a text to a number of columns, as {@link cut} does, but "…" replaces its beginning. */
export function cutFront(text: string, columns: number): string {
  const reversed = (from: string): string => [...from].reverse().join('');
  return reversed(cut(reversed(text), columns));
}

/**
 * Breaks a text into lines between words, and breaks words that are longer than a line, such as paths.
 * @param limits `columns` of a line, and the maximum number of `lines`. A text that is still too long ends with "…".
 */
export function wrap(text: string, { columns, lines }: { columns: number; lines: number }): string[] {
  const found: string[] = [];
  let line = '';
  const words = text.split(' ').flatMap((word) => pieces(word, columns));
  for (const [index, word] of words.entries()) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (columnsOf(longer) <= columns || line === '') {
      line = longer;
      continue;
    }
    if (found.length === lines - 1) {
      return [...found, cut([line, ...words.slice(index)].join(' '), columns)];
    }
    found.push(line);
    line = word;
  }
  return [...found, line];
}

/** Splits a word into pieces that fit into a line. */
function pieces(word: string, columns: number): string[] {
  const found = [''];
  for (const character of word) {
    if (columnsOf(found.at(-1)! + character) > columns) found.push('');
    found[found.length - 1] += character;
  }
  return found;
}

/** Draws a share as a bar of the given number of columns. @param share from 0 to 1; other values are limited to this */
export function bar(share: number, columns: number): string {
  const full = Math.round(Math.min(1, Math.max(0, share)) * columns);
  return '█'.repeat(full) + '░'.repeat(columns - full);
}
