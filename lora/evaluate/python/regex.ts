/**
 * Translates regular expressions of Python's `re` module to JavaScript. Patterns of task files are untrusted, so every
 * search has a deadline. Constructs that JavaScript cannot reproduce on every supported version of Node.js are refused.
 */
import { isSwarmError } from '../../../common/errors.ts';
import { withinDeadline } from '../../data/tokenizing/deadline.ts';
import { SPACE_CLASS } from './text.ts';

/** Deadline of a search in a short text, in milliseconds. Longer texts get more time. */
const DEADLINE_MS = 2_000;

const WORD = '\\p{L}\\p{N}_';
const SPACE = SPACE_CLASS;
/** Character classes by their letter in Python, such as d for \d, written for use inside brackets. */
const CLASSES: Readonly<Record<string, string>> = {
  d: '\\p{Nd}',
  D: '\\P{Nd}',
  w: WORD,
  W: `[^${WORD}]`,
  s: SPACE,
  S: `[^${SPACE}]`,
};
const CONTROLS: Readonly<Record<string, number>> = { n: 10, t: 9, r: 13, f: 12, v: 11, a: 7 };
const ANYWHERE = '[\\s\\S]';
const ANCHORS: Readonly<Record<string, string>> = {
  b: `(?:(?<=[${WORD}])(?![${WORD}])|(?<![${WORD}])(?=[${WORD}]))`,
  B: `(?:(?<=[${WORD}])(?=[${WORD}])|(?<![${WORD}])(?![${WORD}]))`,
  A: `(?<!${ANYWHERE})`,
  Z: `(?!${ANYWHERE})`,
};

/** Thrown for a pattern that cannot be translated, or whose search exceeds its deadline. */
export class PatternProblem extends Error {}

/** A compiled pattern with the functions of `re` that tasks use. */
export class PythonPattern {
  readonly source: string;
  readonly #expression: RegExp;

  /** @throws PatternProblem */
  constructor(source: string) {
    this.source = source;
    const { pattern, flags } = new Translator(source).translate();
    try {
      this.#expression = new RegExp(pattern, `gv${flags}`);
    } catch (error) {
      throw new PatternProblem(error instanceof Error ? error.message : String(error));
    }
  }

  /** Python's `re.findall`: the groups of every match; the whole match for a pattern without groups. */
  findAll(text: string): string[][] {
    return this.#within(text, () =>
      Array.from(text.matchAll(this.#expression), ([match, ...groups]) =>
        groups.length === 0 ? [match] : groups.map((group) => group ?? ''),
      ),
    );
  }

  /** Python's `re.sub(pattern, '', text)`. */
  removeAll(text: string): string {
    return this.#within(text, () => text.replaceAll(this.#expression, ''));
  }

  /** Python's `re.sub(pattern, replacement, text, count)`. @param count 0 replaces all matches */
  replace(text: string, replacement: string, count: number): string {
    const parts = replacementParts(replacement);
    let done = 0;
    return this.#within(text, () =>
      text.replaceAll(this.#expression, (...found: unknown[]) => {
        if (count > 0 && done >= count) return found[0] as string;
        done++;
        return parts.map((part) => (typeof part === 'string' ? part : (found[part] ?? ''))).join('');
      }),
    );
  }

  #within<T>(text: string, run: () => T): T {
    try {
      return withinDeadline(run, text.length, DEADLINE_MS);
    } catch (error) {
      if (!isSwarmError(error)) throw error;
      throw new PatternProblem(
        `${this.source} took more than ${DEADLINE_MS / 1000} s for ${text.length} characters`,
      );
    }
  }
}

/** Splits a replacement into texts and numbers of groups. @throws PatternProblem for escapes other than `\1` and `\\` */
function replacementParts(replacement: string): (string | number)[] {
  return Array.from(replacement.matchAll(/\\g<(\d+)>|\\(.)|[^\\]+|\\$/gsu), ([all, group, escaped]) => {
    if (group !== undefined) return Number(group);
    if (escaped === undefined) return all;
    if (/[1-9]/.test(escaped)) return Number(escaped);
    if (escaped === '\\') return '\\';
    const control = CONTROLS[escaped];
    if (control === undefined) throw new PatternProblem(`the replacement has the escape ${all}`);
    return String.fromCodePoint(control);
  });
}

class Translator {
  readonly #source: string;
  /** Position in the source, in UTF-16 units. */
  #at = 0;
  #flags = new Set<string>();

  constructor(source: string) {
    this.#source = source;
  }

  translate(): { pattern: string; flags: string } {
    const [, flags] = this.#match(/\(\?([a-zA-Z]+)\)/y) ?? [];
    if (flags !== undefined) {
      for (const flag of flags) {
        if (!'imsu'.includes(flag)) throw new PatternProblem(`the flag (?${flag}) is not supported`);
        this.#flags.add(flag);
      }
      this.#at += flags.length + 3;
    }
    let pattern = '';
    while (this.#at < this.#source.length) pattern += this.#item();
    return { pattern, flags: this.#flags.has('i') ? 'i' : '' };
  }

  /** Returns the next code point and passes over it; undefined at the end. */
  #next(): string | undefined {
    const code = this.#source.codePointAt(this.#at);
    if (code === undefined) return undefined;
    const character = String.fromCodePoint(code);
    this.#at += character.length;
    return character;
  }

  /**
   * Matches a sticky expression at the current position, or at `at`. Matching on a slice of the pattern would
   * copy the slice.
   */
  #match(expression: RegExp, at = this.#at): RegExpExecArray | null {
    expression.lastIndex = at;
    return expression.exec(this.#source);
  }

  #item(): string {
    const character = this.#next()!;
    switch (character) {
      case '\\':
        return this.#escape(false);
      case '[':
        return this.#characterClass();
      case '(':
        return this.#group();
      case '.':
        return this.#flags.has('s') ? ANYWHERE : '[^\\n]';
      case '^':
        return this.#flags.has('m') ? '(?<![^\\n])' : ANCHORS.A!;
      case '$':
        return this.#flags.has('m') ? '(?![^\\n])' : `(?=\\n?${ANCHORS.Z})`;
      case '{':
        return this.#repetition();
      case '*':
      case '+':
      case '?':
        return this.#quantifier(character);
      case ')':
      case '|':
        return character;
      default:
        return literal(character);
    }
  }

  #quantifier(text: string): string {
    if (this.#source[this.#at] === '+') throw new PatternProblem(`${text}+ is not supported`);
    return text;
  }

  #repetition(): string {
    const [all, low, comma, high] = this.#match(/(\d*)(?:(,)(\d*))?\}/y) ?? [];
    if (all === undefined || (low === '' && comma === undefined)) return literal('{');
    this.#at += all.length;
    return this.#quantifier(comma === undefined ? `{${low}}` : `{${low || '0'},${high}}`);
  }

  #group(): string {
    if (this.#source[this.#at] !== '?') return '(';
    const named = this.#match(/\?P<(\w+)>/y);
    const reference = this.#match(/\?P=(\w+)\)/y);
    const comment = this.#match(/\?#[^)]*\)/y);
    const plain = this.#match(/\?(?::|=|!|<=|<!)/y);
    const found = named ?? reference ?? comment ?? plain;
    if (found === null)
      throw new PatternProblem(`(${this.#source.slice(this.#at, this.#at + 4)}… is not supported`);
    this.#at += found[0].length;
    if (named) return `(?<${named[1]}>`;
    if (reference) return `\\k<${reference[1]}>`;
    return comment ? '' : `(${found[0]}`;
  }

  /** Translates the escape whose backslash was just read. */
  #escape(inClass: boolean): string {
    const start = this.#at;
    const character = this.#next();
    if (character === undefined) throw new PatternProblem('it ends with a backslash');
    const named = CLASSES[character];
    if (named !== undefined) return inClass ? named : `[${named}]`;
    const hex = this.#match(/(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))/y, start);
    if (hex) {
      this.#at = start + hex[0].length;
      return point(Number.parseInt(hex[1] ?? hex[2] ?? hex[3]!, 16));
    }
    const control = CONTROLS[character] ?? (inClass && character === 'b' ? 8 : undefined);
    if (control !== undefined) return point(control);
    if (!inClass && ANCHORS[character] !== undefined) return ANCHORS[character];
    if (!inClass && /[1-9]/.test(character)) return `(?:\\${character})`;
    if (/[0-9a-zA-Z]/.test(character)) throw new PatternProblem(`the escape \\${character} is not supported`);
    return literal(character);
  }

  #characterClass(): string {
    let content = '';
    if (this.#source[this.#at] === '^') {
      content = '^';
      this.#at++;
    }
    for (let first = true; ; first = false) {
      const character = this.#next();
      if (character === undefined) throw new PatternProblem('a class [… is not closed');
      if (character === ']' && !first) return `[${content}]`;
      const start = character === '\\' ? this.#escape(true) : point(character.codePointAt(0)!);
      content += start;
      const following = this.#source[this.#at + 1];
      if (this.#source[this.#at] !== '-' || following === undefined || following === ']') continue;
      this.#at++;
      const end = this.#next()!;
      content += `-${end === '\\' ? this.#escape(true) : point(end.codePointAt(0)!)}`;
    }
  }
}

/** Returns the source of an expression (flag v) that matches exactly this character. */
function literal(character: string): string {
  return /[\p{L}\p{N} _]/u.test(character) ? character : point(character.codePointAt(0)!);
}

function point(code: number): string {
  return `\\u{${code.toString(16)}}`;
}
