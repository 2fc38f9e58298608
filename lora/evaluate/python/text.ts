/** Python's rules for white space and code points, which differ from JavaScript's. */

/**
 * The characters for which Python's `str.isspace` is true, for use in a character class of a regular expression.
 * Python's `\s` matches the same characters.
 */
export const SPACE_CLASS =
  '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';

/**
 * Maximum length of a text that is read as a number, in UTF-16 units. It is Python's limit for the digits of an `int`
 * (sys.int_info.default_max_str_digits).
 */
export const MAX_NUMBER_LENGTH = 4300;

const SPACES = new RegExp(`[${SPACE_CLASS}]+`, 'u');
const LEADING = new RegExp(`^[${SPACE_CLASS}]+`, 'u');
/**
 * Matches white space at the end of a text. The look-behind keeps the search linear in a text with many runs of white
 * space.
 */
const TRAILING = new RegExp(`(?<![${SPACE_CLASS}])[${SPACE_CLASS}]+$`, 'u');

/** Python's `str.rstrip()`. */
export function stripEnd(text: string): string {
  return text.replace(TRAILING, '');
}

/** Python's `str.lstrip()`. */
export function stripStart(text: string): string {
  return text.replace(LEADING, '');
}

/** Python's `str.strip()`. */
export function strip(text: string): string {
  return stripEnd(stripStart(text));
}

/** Python's `str.split()`: the words of a text. */
export function splitWords(text: string): string[] {
  return text.split(SPACES).filter((word) => word !== '');
}

/** Python's `re.split(r'\s+', text)`. White space at the start or end of the text gives an empty part there. */
export function splitAtSpaces(text: string): string[] {
  return text.split(SPACES);
}

/** Returns whether the text starts with white space. */
export function startsWithSpace(text: string): boolean {
  return LEADING.test(text);
}

/** Returns whether the text ends with white space. */
export function endsWithSpace(text: string): boolean {
  return text !== '' && SPACES.test(text.at(-1)!);
}

/** Returns the number of code points, which is Python's `len` of a text. */
export function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
