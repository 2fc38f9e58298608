/** Python's `ast.literal_eval`: texts, numbers, lists, tuples, dictionaries, True, False and None. */
import { MAX_NUMBER_LENGTH } from './text.ts';
import { Float, type PythonValue, str, ValueProblem } from './values.ts';

/** Thrown for a text that is not a Python literal. */
export class LiteralProblem extends Error {}

const CONSTANTS: Readonly<Record<string, null | boolean>> = { None: null, True: true, False: false };
const NUMBER = /[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?)/y;
const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  a: '\x07',
  b: '\b',
  f: '\f',
  v: '\v',
  '\\': '\\',
  "'": "'",
  '"': '"',
  '\n': '',
};
/** Maximum depth of nested lists. */
const MAX_DEPTH = 50;

/** Parses a literal. Sets become lists. @throws LiteralProblem */
export function literalEval(source: string): PythonValue {
  const parser = new LiteralParser(source.replace(/^[ \t]+/, ''));
  try {
    return parser.whole();
  } catch (error) {
    // JavaScript throws a RangeError for a code point above U+10FFFF, and for a text that is too long.
    if (error instanceof RangeError || error instanceof ValueProblem) throw new LiteralProblem(error.message);
    throw error;
  }
}

class LiteralParser {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  whole(): PythonValue {
    const value = this.#items('');
    this.#skip();
    if (this.#at < this.#text.length) throw this.#problem();
    return value.length === 1 && !value.tuple ? value.items[0]! : value.items;
  }

  #problem(): LiteralProblem {
    const found = this.#text.slice(this.#at, this.#at + 20);
    return new LiteralProblem(
      found === '' ? 'it ends too early' : `it is not a Python literal at ${JSON.stringify(found)}`,
    );
  }

  #skip(): void {
    while (/[ \t\r\n\f]/.test(this.#text[this.#at] ?? '')) this.#at++;
  }

  #take(character: string): boolean {
    this.#skip();
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  /** Parses items up to `close`, and stops before it. An empty `close` stands for the end of the text. */
  #items(close: string): { items: PythonValue[]; length: number; tuple: boolean } {
    const items: PythonValue[] = [];
    let tuple = false;
    for (;;) {
      this.#skip();
      const next = this.#text[this.#at] ?? '';
      if (next === close) {
        if (close === '' && items.length === 0) throw this.#problem();
        return { items, length: items.length, tuple };
      }
      items.push(this.#value());
      if (this.#take(',')) {
        tuple = true;
        continue;
      }
      this.#skip();
      if ((this.#text[this.#at] ?? '') !== close) throw this.#problem();
    }
  }

  #value(): PythonValue {
    this.#skip();
    const character = this.#text[this.#at] ?? '';
    if (character === '[' || character === '(' || character === '{') return this.#container(character);
    const prefix = /^[uUrR]?(?=['"])/.exec(this.#text.slice(this.#at, this.#at + 2))?.[0];
    if (prefix !== undefined) return this.#texts();
    const name = /^[A-Za-z]+/.exec(this.#text.slice(this.#at, this.#at + 6))?.[0];
    if (name !== undefined && Object.hasOwn(CONSTANTS, name)) {
      this.#at += name.length;
      return CONSTANTS[name]!;
    }
    NUMBER.lastIndex = this.#at;
    const number = NUMBER.exec(this.#text)?.[0];
    if (number === undefined) throw this.#problem();
    if (number.length > MAX_NUMBER_LENGTH)
      throw new LiteralProblem(`a number has more than ${MAX_NUMBER_LENGTH} digits`);
    if (/^[+-]?0[\d_]+$/.test(number) && /[1-9]/.test(number)) throw this.#problem();
    this.#at += number.length;
    const value = Number(number.replaceAll('_', ''));
    return /^[+-]?(0[xX].*|[\d_]+)$/.test(number) ? value : new Float(value);
  }

  #container(open: string): PythonValue {
    if (++this.#depth > MAX_DEPTH) throw new LiteralProblem(`it is nested more than ${MAX_DEPTH} deep`);
    this.#at++;
    const value = open === '{' ? this.#dictionary() : this.#sequence(open);
    this.#depth--;
    return value;
  }

  #sequence(open: string): PythonValue {
    const { items, tuple } = this.#items(open === '[' ? ']' : ')');
    this.#at++;
    return open === '(' && items.length === 1 && !tuple ? items[0]! : items;
  }

  #dictionary(): PythonValue {
    const entries: [string, PythonValue][] = [];
    const items: PythonValue[] = [];
    while (!this.#take('}')) {
      const key = this.#value();
      if (this.#take(':')) entries.push([str(key), this.#value()]);
      else items.push(key);
      if (!this.#take(',') && this.#text[this.#at] !== '}') throw this.#problem();
    }
    if (items.length > 0 && entries.length > 0) throw this.#problem();
    return items.length > 0 ? items : Object.fromEntries(entries);
  }

  /** Parses a string literal. Appends string literals that follow it directly, as Python does. */
  #texts(): string {
    let result = '';
    for (;;) {
      this.#skip();
      const raw = /[rR]/.test(this.#text[this.#at] ?? '');
      if (/[uUrR]/.test(this.#text[this.#at] ?? '') && /['"]/.test(this.#text[this.#at + 1] ?? ''))
        this.#at++;
      const quote = this.#text[this.#at];
      if (quote !== "'" && quote !== '"') return result;
      const long = this.#text.startsWith(quote.repeat(3), this.#at);
      result += this.#quoted(long ? quote.repeat(3) : quote, raw);
    }
  }

  #quoted(quote: string, raw: boolean): string {
    this.#at += quote.length;
    let result = '';
    while (!this.#text.startsWith(quote, this.#at)) {
      const character = this.#text[this.#at++];
      if (character === undefined || (character === '\n' && quote.length === 1)) throw this.#problem();
      if (character !== '\\') result += character;
      else result += raw ? character + (this.#text[this.#at++] ?? '') : this.#escape();
    }
    this.#at += quote.length;
    return result;
  }

  #escape(): string {
    const rest = this.#text.slice(this.#at, this.#at + 9);
    const hex = /^(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))/.exec(rest);
    if (hex) {
      this.#at += hex[0].length;
      return String.fromCodePoint(Number.parseInt(hex[1] ?? hex[2] ?? hex[3]!, 16));
    }
    const octal = /^[0-7]{1,3}/.exec(rest)?.[0];
    if (octal !== undefined) {
      this.#at += octal.length;
      return String.fromCodePoint(Number.parseInt(octal, 8));
    }
    const character = this.#text[this.#at++];
    if (character === undefined) throw this.#problem();
    return SIMPLE_ESCAPES[character] ?? `\\${character}`;
  }
}
