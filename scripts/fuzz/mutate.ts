import * as dagCbor from '@ipld/dag-cbor';
import type { SeededRandom } from '../../test/utils/virtual/seeded-random.ts';

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'));
/** Pieces of CBOR on which decoders have failed, and numbers at the limits of their types. */
const PIECES: readonly Uint8Array[] = [
  hex('f97e00'), // NaN
  hex('f97c00'), // Infinity
  hex('f98000'), // -0
  hex('fb7fefffffffffffff'), // the largest double
  hex('1bffffffffffffffff'), // the largest unsigned integer
  hex('3bffffffffffffffff'), // the smallest negative integer
  hex('1b0020000000000000'), // 2^53
  hex('5bffffffffffffffff'), // a byte string of 2^64 - 1 bytes
  hex('9b00000000ffffffff'), // a list of 2^32 - 1 items
  hex('bb00000000ffffffff'), // a map of 2^32 - 1 entries
  hex('7a7fffffff'), // a text of 2^31 - 1 bytes
  hex('5f'), // a byte string without a length
  hex('9f'), // a list without a length
  hex('ff'),
  hex('c249010000000000000000'), // a bignum
  hex('d82a450001550000'), // a link
  hex('f7'), // undefined
  hex('695f5f70726f746f5f5fa0'), // "__proto__": {}
  hex('6b636f6e7374727563746f72a0'), // "constructor": {}
  hex('62c328'), // a text that is not UTF-8
  new Uint8Array(3000).fill(0x81), // lists in lists
  hex('ffffffff7f'),
  hex('8080808000'),
];
/** Values that take the place of a value in a valid message. */
const VALUES: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  0.5,
  1e308,
  -1e308,
  Number.MAX_SAFE_INTEGER,
  2n ** 64n - 1n,
  -(2n ** 63n),
  '',
  'x'.repeat(3000),
  '../../etc/passwd',
  '__proto__',
  '\u0000\u001b]0;',
  '\u202e',
  new Uint8Array(),
  new Uint8Array(1000),
  [],
  {},
  Array.from({ length: 600 }, () => 0),
  { ['__proto__']: { polluted: true }, constructor: { prototype: { polluted: true } } },
];
/** Maximum number of random bytes. */
const RANDOM_BYTES = 200;

/**
 * Makes an input from a valid encoding: usually by one to four changes, sometimes from random bytes alone.
 * @param cbor whether the encoding is CBOR. In CBOR, half of the changed inputs have one changed value instead of changed
 *   bytes
 */
export function mutate(
  valid: Uint8Array,
  other: Uint8Array,
  cbor: boolean,
  random: SeededRandom,
): Uint8Array {
  if (cbor && random.chance(0.5)) return dagCbor.encode(changedValue(dagCbor.decode(valid), random));
  if (random.chance(0.05)) return randomBytes(random.integer(0, RANDOM_BYTES), random);
  let bytes = valid;
  for (let change = random.integer(1, 4); change > 0; change--) bytes = changed(bytes, other, random);
  return bytes;
}

function changed(bytes: Uint8Array, other: Uint8Array, random: SeededRandom): Uint8Array {
  const at = random.integer(0, bytes.length);
  const length = random.integer(1, random.pick([1, 8, 100]));
  switch (random.integer(0, 8)) {
    case 0:
      return withByte(bytes, at, (byte) => byte ^ (1 << random.integer(0, 7)));
    case 1:
      return withByte(bytes, at, () => random.integer(0, 255));
    case 2:
      return withByte(bytes, at, (byte) => byte + random.pick([1, -1]));
    case 3:
      return bytes.subarray(0, at);
    case 4:
      return splice(bytes, at, length, new Uint8Array());
    case 5:
      return splice(bytes, at, 0, bytes.subarray(at, at + length));
    case 6:
      return splice(bytes, at, random.pick([0, 1, 5, 9]), random.pick(PIECES));
    case 7:
      return splice(bytes, at, 0, randomBytes(length, random));
    default: {
      const from = random.integer(0, other.length);
      return splice(bytes, at, length, other.subarray(from, from + length));
    }
  }
}

/** Replaces, removes, adds or repeats one value somewhere in a decoded message. */
function changedValue(value: unknown, random: SeededRandom): unknown {
  if (value instanceof Uint8Array) {
    return random.chance(0.5) ? random.pick(VALUES) : changed(value, value, random);
  }
  if (typeof value !== 'object' || value === null) {
    if (typeof value === 'number' && random.chance(0.5)) return -value;
    return random.pick(VALUES);
  }
  const keys = Object.keys(value);
  if (keys.length === 0 || random.chance(0.05)) return random.pick(VALUES);
  const key = random.pick(keys);
  if (Array.isArray(value)) {
    if (random.chance(0.1)) return [...value, ...value];
    return value.map((item, i) => (String(i) === key ? changedValue(item, random) : item));
  }
  const entries = Object.entries(value);
  if (random.chance(0.1)) return Object.fromEntries(entries.filter(([name]) => name !== key));
  if (random.chance(0.05)) return Object.fromEntries([...entries, ['added', random.pick(VALUES)]]);
  return Object.fromEntries(
    entries.map(([name, item]) => [name, name === key ? changedValue(item, random) : item]),
  );
}

function withByte(bytes: Uint8Array, at: number, change: (byte: number) => number): Uint8Array {
  const copy = new Uint8Array(bytes);
  if (at < copy.length) copy[at] = change(copy[at]!);
  return copy;
}

function splice(bytes: Uint8Array, at: number, removed: number, added: Uint8Array): Uint8Array {
  const rest = bytes.subarray(at + removed);
  const result = new Uint8Array(at + added.length + rest.length);
  result.set(bytes.subarray(0, at));
  result.set(added, at);
  result.set(rest, at + added.length);
  return result;
}

function randomBytes(length: number, random: SeededRandom): Uint8Array {
  return Uint8Array.from({ length }, () => random.integer(0, 255));
}
