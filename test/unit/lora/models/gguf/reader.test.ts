import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isSwarmError } from '../../../../../common/errors.ts';
import { MAX_ELEMENTS } from '../../../../../lora/models/gguf/cursor.ts';
import {
  MAX_KEYS,
  MAX_TENSORS,
  parseGguf,
  readGguf,
  tensorFloats,
} from '../../../../../lora/models/gguf/reader.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';
import { FIXTURES } from '../../../../utils/models/reference.ts';
import { withCode } from '../../../../utils/source/codes.ts';

const fixture = join(FIXTURES, 'gguf', 'blocks.gguf');

test("reads metadata that gguf's writer made", async () => {
  const { metadata } = await readGguf(fixture);
  expect(Object.fromEntries(metadata)).toEqual({
    'general.architecture': 'llama',
    'test.text': 'a ▁ text',
    'test.list': ['one', 'two', ''],
    'test.numbers': [1.5, -2],
    'test.large': 2n ** 63n,
    'test.flag': true,
  });
});

const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer);
const u64 = (value: bigint | number) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
const text = (value: string | Buffer, length: bigint | number = Buffer.byteLength(value)) =>
  Buffer.concat([u64(length), Buffer.from(value)]);

interface Parts {
  magic?: string;
  version?: number;
  tensors?: readonly Buffer[];
  tensorCount?: bigint | number;
  keys?: readonly Buffer[];
  keyCount?: bigint | number;
  data?: number;
}

function encode({
  magic = 'GGUF',
  version = 3,
  tensors = [],
  keys = [],
  data = 0,
  ...counts
}: Parts): Buffer {
  const { tensorCount = tensors.length, keyCount = keys.length } = counts;
  const start = [Buffer.from(magic), u32(version), u64(tensorCount), u64(keyCount), ...keys, ...tensors];
  const header = Buffer.concat(start);
  return Buffer.concat([header, Buffer.alloc(((32 - (header.length % 32)) % 32) + data)]);
}

const key = (name: string, type: number, ...value: Buffer[]) =>
  Buffer.concat([text(name), u32(type), ...value]);

function tensor({ name = 'w', dims = [4 as bigint | number], type = 0, offset = 0 as bigint | number } = {}) {
  return Buffer.concat([text(name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset)]);
}

const parse = (bytes: Buffer) => parseGguf(bytes, bytes.length, 'x.gguf');

describe('refuses a file that', () => {
  const cases: [string, Parts, string][] = [
    ['has other magic bytes', { magic: 'GGML' }, 'GGUF_HEADER'],
    ['is big-endian', { version: 3 << 24 }, 'GGUF_UNSUPPORTED'],
    ['has version 1', { version: 1 }, 'GGUF_UNSUPPORTED'],
    ['has version 4', { version: 4 }, 'GGUF_UNSUPPORTED'],
    ['declares too many tensors', { tensorCount: MAX_TENSORS + 1 }, 'GGUF_HEADER'],
    ['declares 2^64 − 1 tensors', { tensorCount: 2n ** 64n - 1n }, 'GGUF_HEADER'],
    ['declares too many keys', { keyCount: MAX_KEYS + 1 }, 'GGUF_HEADER'],
    ['declares more keys than it has bytes', { keyCount: 5000 }, 'GGUF_TRUNCATED'],
    ['has a key of 2^40 bytes', { keys: [text('k', 2 ** 40)] }, 'GGUF_HEADER'],
    ['has a text past its end', { keys: [key('k', 8, text('abc', 1000))] }, 'GGUF_HEADER'],
    ['has a key twice', { keys: [key('k', 4, u32(1)), key('k', 4, u32(2))] }, 'GGUF_HEADER'],
    [
      'has a key that is not UTF-8',
      { keys: [Buffer.concat([text(Buffer.of(0xff)), u32(4), u32(1)])] },
      'GGUF_HEADER',
    ],
    ['has a value of an unknown type', { keys: [key('k', 13, u64(0))] }, 'GGUF_HEADER'],
    ['has an array of arrays', { keys: [key('k', 9, u32(9), u64(1))] }, 'GGUF_HEADER'],
    [
      'has an array of too many elements',
      { keys: [key('k', 9, u32(0), u64(MAX_ELEMENTS + 1))] },
      'GGUF_HEADER',
    ],
    ['has an array past its end', { keys: [key('k', 9, u32(8), u64(MAX_ELEMENTS))] }, 'GGUF_TRUNCATED'],
    [
      'has too many elements in all',
      {
        keys: ['a', 'b'].map((name) =>
          key(name, 9, u32(0), u64(MAX_ELEMENTS / 2 + 1), Buffer.alloc(MAX_ELEMENTS / 2 + 1)),
        ),
      },
      'GGUF_HEADER',
    ],
    ['has an alignment of 0', { keys: [key('general.alignment', 4, u32(0))] }, 'GGUF_HEADER'],
    ['has an alignment that is a text', { keys: [key('general.alignment', 8, text('32'))] }, 'GGUF_HEADER'],
    ['has a tensor twice', { tensors: [tensor(), tensor({ offset: 32 })], data: 64 }, 'GGUF_HEADER'],
    [
      'has a tensor with a long name',
      { tensors: [tensor({ name: 'w'.repeat(64) })], data: 64 },
      'GGUF_HEADER',
    ],
    ['has a tensor without dimensions', { tensors: [tensor({ dims: [] })], data: 64 }, 'GGUF_HEADER'],
    [
      'has a tensor of five dimensions',
      { tensors: [tensor({ dims: [1, 1, 1, 1, 1] })], data: 64 },
      'GGUF_HEADER',
    ],
    ['has a dimension of 0', { tensors: [tensor({ dims: [4, 0] })], data: 64 }, 'GGUF_HEADER'],
    ['has a dimension of 2^63', { tensors: [tensor({ dims: [2n ** 63n] })], data: 64 }, 'GGUF_HEADER'],
    // The product wraps to 0 in 64 bits.
    [
      'has a size that overflows',
      { tensors: [tensor({ dims: [2 ** 32, 2 ** 32] })], data: 64 },
      'GGUF_TRUNCATED',
    ],
    ['has rows of half a block', { tensors: [tensor({ dims: [16], type: 8 })], data: 64 }, 'GGUF_HEADER'],
    ['has an offset that is not aligned', { tensors: [tensor({ offset: 4 })], data: 64 }, 'GGUF_HEADER'],
    ['has an offset of 2^63', { tensors: [tensor({ offset: 2n ** 63n })], data: 64 }, 'GGUF_HEADER'],
    ['has a tensor past its end', { tensors: [tensor({ offset: 64 })], data: 64 }, 'GGUF_TRUNCATED'],
    [
      'has overlapping tensors',
      { tensors: [tensor({ dims: [16] }), tensor({ name: 'v', offset: 32 })], data: 64 },
      'GGUF_HEADER',
    ],
  ];

  test.each(cases)('%s', (_, parts, code) => {
    expect(() => parse(encode(parts))).toThrow(withCode(code));
  });

  test.each([
    [10, 'Q2_K'],
    [20, 'IQ4_NL'],
    [99, 'type 99'],
  ])('has a tensor of type %i, by the name %s', (type, name) => {
    const bytes = encode({ tensors: [tensor({ dims: [256], type })], data: 1024 });
    expect(() => parse(bytes)).toThrow(withCode('GGUF_UNSUPPORTED', { type: name, tensor: 'w' }));
  });
});

test('a cut-off file gives an error at every length', async () => {
  const file = join(await temporaryFolder(), 'cut.gguf');
  const bytes = await readFile(fixture);
  for (const length of [0, 3, 4, 23, 24, 25, 100, 300, 1000, 2000, bytes.length - 64]) {
    await writeFile(file, bytes.subarray(0, length));
    const code = length <= 3 ? 'GGUF_TRUNCATED' : expect.stringMatching(/^GGUF_(TRUNCATED|HEADER)$/);
    await expect(readGguf(file), String(length)).rejects.toMatchObject({ code });
  }
});

test('a file that shrinks after its header was read gives an error', async () => {
  const file = join(await temporaryFolder(), 'shrunk.gguf');
  const bytes = await readFile(fixture);
  await writeFile(file, bytes);
  const { tensors } = await readGguf(file);
  await writeFile(file, bytes.subarray(0, 4000));
  const last = [...tensors.values()].at(-1)!;
  await expect(tensorFloats(file, last).next()).rejects.toMatchObject({ code: 'GGUF_TRUNCATED' });
});

test('a file with changed bytes is read or refused with an error code', async () => {
  const bytes = await readFile(fixture);
  const end = 2300; // of the header
  const change = fc.tuple(fc.nat(end), fc.constantFrom(0, 1, 2, 8, 9, 0x7f, 0x80, 0xff));
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
      const changed = Buffer.from(bytes);
      for (const [at, value] of changes) changed[at] = value;
      try {
        for (const { offset, length } of parse(changed).tensors.values())
          expect(offset + length).toBeLessThanOrEqual(bytes.length);
      } catch (error) {
        expect(isSwarmError(error)).toBe(true);
      }
    }),
    { numRuns: 500 },
  );
});
