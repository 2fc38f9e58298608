/** The characters of CSV: text in pieces that are cut anywhere becomes records of fields. */

export interface CsvRecord {
  /** From 1, of its first character. */
  line: number;
  fields: string[];
  /** `quotes`: text after a closing quote; `open`: the text ended in quotes; `long`: over the limit, the end of parsing. */
  fault: 'quotes' | 'open' | 'long' | null;
}

export interface CsvParserOptions {
  /** null: the first of comma, semicolon and tab that stands in the first line outside of quotes. */
  separator: string | null;
  /** Of one record. */
  maxCharacters: number;
}

const SEPARATORS = [',', ';', '\t'];

/**
 * RFC 4180, and what is common beside it: LF as well as CRLF, a quote inside of a field that does not begin with
 * one stands for itself, the last line may lack its end. A line without any character is no record.
 */
export class CsvParser {
  readonly #maxCharacters: number;
  #separator: string | null;
  #rest = '';
  /** Length of `rest` from which on it is worth a look. */
  #lookAt = 0;
  #line = 1;
  #failed = false;

  constructor({ separator, maxCharacters }: CsvParserOptions) {
    this.#separator = separator;
    this.#maxCharacters = maxCharacters;
  }

  push(text: string): CsvRecord[] {
    this.#rest += text;
    // A long record is looked at again only when it is twice as long: its time does not grow with its square.
    return this.#rest.length < this.#lookAt ? [] : this.#parse(this.#rest, false);
  }

  end(): CsvRecord[] {
    return this.#parse(this.#rest, true);
  }

  /** Records that are complete in `text`; what follows the last one waits for more. */
  #parse(text: string, last: boolean): CsvRecord[] {
    const records: CsvRecord[] = [];
    let at = 0;
    while (at < text.length && !this.#failed) {
      this.#separator ??= separatorOf(text, last);
      const found = this.#separator === null ? null : record(text, at, this.#separator, last);
      if (found === null || found.end - at > this.#maxCharacters) break;
      const { fields, fault, end, lines } = found;
      const blank = fields.length === 1 && fields[0] === '' && text[at] !== '"';
      if (!blank) records.push({ line: this.#line, fields, fault });
      this.#line += lines;
      at = end;
    }
    this.#rest = text.slice(at);
    this.#lookAt = Math.min(2 * this.#rest.length, this.#maxCharacters + 1);
    if (this.#rest.length > this.#maxCharacters) {
      this.#failed = true;
      this.#rest = '';
      records.push({ line: this.#line, fields: [], fault: 'long' });
    }
    return records;
  }
}

interface Found {
  fields: string[];
  fault: 'quotes' | 'open' | null;
  /** Position behind the record and its line end. */
  end: number;
  /** Line ends in it. */
  lines: number;
}

/** The record at `start`; null when its end has not come yet. */
function record(text: string, start: number, separator: string, last: boolean): Found | null {
  const found: Found = { fields: [], fault: null, end: text.length, lines: 0 };
  for (let at = start; ; at++) {
    const quoted = text[at] === '"';
    let value = '';
    if (quoted) {
      const close = closingQuote(text, at, last);
      if (close === null) return last ? { ...found, fault: 'open' } : null;
      const raw = text.slice(at + 1, close);
      value = raw.includes('"') ? raw.replaceAll('""', '"') : raw;
      found.lines += count(raw);
      at = close + 1;
    }
    const end = fieldEnd(text, at, separator);
    if (end === text.length && !last) return null;
    const endsLine = end === text.length || text[end] === '\n';
    const tail = text.slice(at, endsLine && end > at && text[end - 1] === '\r' ? end - 1 : end);
    if (quoted && tail !== '') found.fault = 'quotes';
    found.fields.push(quoted ? value : tail);
    at = end;
    if (!endsLine) continue;
    if (end === text.length) return found;
    return { ...found, end: end + 1, lines: found.lines + 1 };
  }
}

/** Position of the quote that closes the field at `open`; null when it, or what tells it from a doubled one, is missing. */
function closingQuote(text: string, open: number, last: boolean): number | null {
  for (let at = text.indexOf('"', open + 1); at >= 0; at = text.indexOf('"', at + 2)) {
    if (at + 1 === text.length && !last) return null;
    if (text[at + 1] !== '"') return at;
  }
  return null;
}

/** Position of the next separator or line feed; the text's length when there is none. */
function fieldEnd(text: string, from: number, separator: string): number {
  for (let at = from; at < text.length; at++) {
    const character = text[at];
    if (character === separator || character === '\n') return at;
  }
  return text.length;
}

/** The separator of the header; null when the header has not ended yet. */
function separatorOf(text: string, last: boolean): string | null {
  const found = new Set<string>();
  let quoted = false;
  for (const character of text) {
    if (character === '"') quoted = !quoted;
    else if (!quoted && character === '\n') return choose(found);
    else if (!quoted) found.add(character);
  }
  return last ? choose(found) : null;
}

function choose(characters: ReadonlySet<string>): string {
  return SEPARATORS.find((candidate) => characters.has(candidate)) ?? ',';
}

function count(text: string): number {
  let lines = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) lines++;
  return lines;
}
