import type { SwarmError } from '../../../common/errors.ts';
import { modelError } from '../errors.ts';
import type { GgufValue } from './cursor.ts';

/** Reads the keys of a GGUF file's metadata with their types. */
export class Metadata {
  readonly #values: ReadonlyMap<string, GgufValue>;
  readonly #file: string;

  /** @param file path of the file, for errors */
  constructor(values: ReadonlyMap<string, GgufValue>, file: string) {
    this.#values = values;
    this.#file = file;
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  /** Reads a number. Returns `fallback` if the key is missing. @throws SwarmError GGUF_METADATA */
  number(key: string): number;
  number<T>(key: string, fallback: T): number | T;
  number<T>(key: string, ...fallback: [T?]): number | T | undefined {
    const value = this.#values.get(key);
    if (value === undefined && fallback.length > 0) return fallback[0];
    if (typeof value === 'number') return value;
    throw this.invalid(key, 'a number');
  }

  /** Reads a text. Returns `fallback` if the key is missing. @throws SwarmError GGUF_METADATA */
  text(key: string): string;
  text<T>(key: string, fallback: T): string | T;
  text<T>(key: string, ...fallback: [T?]): string | T | undefined {
    const value = this.#values.get(key);
    if (value === undefined && fallback.length > 0) return fallback[0];
    if (typeof value === 'string') return value;
    throw this.invalid(key, 'a text');
  }

  /** Reads a boolean. Returns `fallback` if the key is missing. @throws SwarmError GGUF_METADATA */
  flag(key: string, fallback: boolean): boolean {
    const value = this.#values.get(key) ?? fallback;
    if (typeof value === 'boolean') return value;
    throw this.invalid(key, 'true or false');
  }

  /** Returns a list of texts; null if the key is missing. @throws SwarmError GGUF_METADATA */
  texts(key: string): readonly string[] | null {
    return this.#list(key, (item) => typeof item === 'string', 'a list of texts');
  }

  /** Returns a list of numbers; null if the key is missing. @throws SwarmError GGUF_METADATA */
  numbers(key: string): readonly number[] | null {
    return this.#list(key, (item) => typeof item === 'number', 'a list of numbers');
  }

  #list<T extends GgufValue>(
    key: string,
    isItem: (item: GgufValue) => item is T,
    expected: string,
  ): readonly T[] | null {
    const value = this.#values.get(key);
    if (value === undefined) return null;
    if (Array.isArray(value) && value.every(isItem)) return value;
    throw this.invalid(key, expected);
  }

  invalid(key: string, expected: string): SwarmError {
    const found = JSON.stringify(this.#values.get(key), (_, value) =>
      typeof value === 'bigint' ? String(value) : value,
    );
    return modelError(
      'GGUF_METADATA',
      `${this.#file}: ${key} is ${found?.slice(0, 100) ?? 'missing'}, expected ${expected}`,
      { file: this.#file, key, expected },
    );
  }

  /** Makes the error for a feature that cannot be read exactly. */
  unsupported(what: string, details: { next?: string } = {}): SwarmError {
    const message = `${this.#file} has ${what}, which is not supported`;
    return modelError('GGUF_UNSUPPORTED', message, { file: this.#file, what }, details);
  }
}

/**
 * Returns the shortest decimal that rounds to this float32, so that config files show 1e-5 instead of 9.99999974e-6.
 */
export function shortest(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}
