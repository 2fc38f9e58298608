import type { SwarmError } from '../../../common/errors.ts';
import { dataError } from '../errors.ts';

/** A part of tokenizer.json: `{ type, … }`. */
export type Part = Readonly<Record<string, unknown>>;

/**
 * Makes the error for a part of a tokenizer that is not supported. The tokenizer never approximates such a part,
 * because wrong token ids would go unnoticed.
 */
export function unsupported(what: string, found: unknown): SwarmError {
  const shown = JSON.stringify(found) ?? 'nothing';
  return dataError(
    'TOKENIZER_UNSUPPORTED',
    `the tokenizer needs ${what} ${shown.slice(0, 200)}, which is not supported`,
    { part: what, found: shown.slice(0, 200) },
  );
}

/** Returns a part, or null if it is missing. @throws TOKENIZER_UNSUPPORTED if it is not an object */
export function partOf(value: unknown, name: string): Part | null {
  if (value === null || value === undefined) return null;
  if (typeof value === 'object' && !Array.isArray(value)) return value as Part;
  throw unsupported(name, value);
}

export function partsOf(value: unknown, name: string): Part[] {
  if (!Array.isArray(value)) throw unsupported(name, value);
  return value.map((part) => partOf(part, name)).filter((part) => part !== null);
}

export function textOf(value: unknown, name: string): string {
  if (typeof value === 'string') return value;
  throw unsupported(name, value);
}
