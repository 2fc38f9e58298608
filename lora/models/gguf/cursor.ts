import type { SwarmError } from '../../../common/errors.ts';
import { modelError } from '../errors.ts';
import { VALUE_TYPES } from './format.ts';

/** A value of GGUF metadata. 64-bit numbers beyond 2^53 are bigints. Arrays hold values of one type. */
export type GgufValue = number | bigint | boolean | string | readonly (number | bigint | boolean | string)[];

/**
 * Maximum number of array elements in a file. An element takes at least 8 bytes of memory, but may take only 1 byte of
 * the file. Tokens, their types and scores, and merges of the largest vocabularies have about 1.4 million elements.
 */
export const MAX_ELEMENTS = 2 ** 22;

/** Thrown when the header is longer than the bytes that have been read so far. */
export class NeedMoreBytes extends Error {}

const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const TYPE_NAMES = new Map<number, string>(Object.entries(VALUE_TYPES).map(([name, id]) => [id, name]));

/** Reads values from the start of a file, one after the other. */
export class Cursor {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #fileSize: number;
  readonly #file: string;
  #at = 0;
  #elements = 0;

  /**
   * @param bytes the first bytes of the file
   * @param file name of the file, for errors
   */
  constructor(bytes: Uint8Array, fileSize: number, file: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#fileSize = fileSize;
    this.#file = file;
  }

  get position(): number {
    return this.#at;
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  /** Reads a u64 that is a count or a length. @throws SwarmError GGUF_HEADER if it is above `most` */
  count(what: string, most: number): number {
    const value = this.#view.getBigUint64(this.#take(8), true);
    if (value > BigInt(most)) throw this.malformed(`${what} is ${value}, and the maximum is ${most}`, what);
    return Number(value);
  }

  /** Reads a text in UTF-8, of at most `most` bytes. @throws SwarmError GGUF_HEADER, GGUF_TRUNCATED */
  string(what: string, most: number): string {
    const length = this.count(`the length of ${what}`, most);
    const start = this.#take(length);
    try {
      return text.decode(this.#bytes.subarray(start, start + length));
    } catch {
      throw this.malformed(`${what} is not UTF-8`, what);
    }
  }

  /** Reads a value of metadata. The type of the value comes first in the file. */
  value(key: string): GgufValue {
    const type = this.#type(key);
    if (type !== 'array') return this.#scalar(type, key);
    const element = this.#type(key);
    if (element === 'array') throw this.malformed(`${key} is an array of arrays`, key);
    const length = this.count(`the number of elements of ${key}`, MAX_ELEMENTS - this.#elements);
    this.#elements += length;
    // Checks the length before it allocates memory for it. A string takes at least the 8 bytes of its length.
    this.require(length * (element === 'string' ? 8 : SIZES[element]!));
    const values: (number | bigint | boolean | string)[] = [];
    for (let i = 0; i < length; i++) values.push(this.#scalar(element, key));
    return values;
  }

  /** Checks that the file has `length` more bytes. @throws SwarmError GGUF_TRUNCATED */
  require(length: number): void {
    if (this.#at + length > this.#fileSize)
      throw modelError(
        'GGUF_TRUNCATED',
        `${this.#file} is cut off: it has ${this.#fileSize} bytes, but its header needs ${this.#at + length}`,
        { file: this.#file, expected: this.#at + length, found: this.#fileSize },
      );
  }

  malformed(reason: string, what: string): SwarmError {
    const message = `${this.#file}, byte ${this.#at}: ${reason}`;
    return modelError('GGUF_HEADER', message, { file: this.#file, what, position: this.#at });
  }

  #type(key: string): string {
    const id = this.u32();
    const type = TYPE_NAMES.get(id);
    if (type === undefined) throw this.malformed(`${key} has a value of the unknown type ${id}`, key);
    return type;
  }

  #scalar(type: string, key: string): number | bigint | boolean | string {
    if (type === 'string') return this.string(key, this.#fileSize);
    const at = this.#take(SIZES[type]!);
    switch (type) {
      case 'u8':
        return this.#view.getUint8(at);
      case 'i8':
        return this.#view.getInt8(at);
      case 'u16':
        return this.#view.getUint16(at, true);
      case 'i16':
        return this.#view.getInt16(at, true);
      case 'u32':
        return this.#view.getUint32(at, true);
      case 'i32':
        return this.#view.getInt32(at, true);
      case 'f32':
        return this.#view.getFloat32(at, true);
      case 'f64':
        return this.#view.getFloat64(at, true);
      case 'bool':
        return this.#view.getUint8(at) !== 0;
      case 'u64':
        return narrowed(this.#view.getBigUint64(at, true));
      default:
        return narrowed(this.#view.getBigInt64(at, true));
    }
  }

  /** Moves past `length` bytes, and returns the position at which these bytes begin. */
  #take(length: number): number {
    this.require(length);
    const start = this.#at;
    if (start + length > this.#bytes.byteLength) throw new NeedMoreBytes();
    this.#at += length;
    return start;
  }
}

/** Sizes of values in bytes. */
const SIZES: Readonly<Record<string, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  u64: 8,
  i64: 8,
  f64: 8,
};

function narrowed(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
