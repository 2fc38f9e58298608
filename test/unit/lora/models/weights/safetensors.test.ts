import { readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isSwarmError } from '../../../../../common/errors.ts';
import {
  decodeHeader,
  MAX_HEADER_BYTES,
  readHeader,
  readTensor,
  tensorChunks,
} from '../../../../../lora/models/weights/safetensors.ts';
import {
  encodeSafetensors,
  writeSafetensors,
} from '../../../../../lora/models/weights/safetensors-writer.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';
import { FIXTURES } from '../../../../utils/models/reference.ts';
import { rawSafetensors } from '../../../../utils/models/safetensors.ts';
import { withCode } from '../../../../utils/source/codes.ts';

const f32 = (shape: number[], begin: number, end: number) => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
});

describe('refuses a header that', () => {
  const cases: [string, unknown, number, string][] = [
    ['is cut off inside the JSON', '{"a":', 0, 'TENSORS_HEADER'],
    ['is not an object', '[]', 0, 'TENSORS_HEADER'],
    ['is not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22]), 0, 'TENSORS_HEADER'],
    ['names a tensor twice', '{"a":{"dtype":"F32"},"a":{"dtype":"F32"}}', 0, 'TENSORS_HEADER'],
    ['has metadata that is not a string', { __metadata__: { format: 1 } }, 0, 'TENSORS_HEADER'],
    ['has an entry that is not an object', { a: 7 }, 0, 'TENSORS_ENTRY'],
    ['has an unknown dtype', { a: { dtype: 'F7', shape: [1], data_offsets: [0, 4] } }, 4, 'TENSORS_ENTRY'],
    [
      'has an inherited dtype',
      { a: { dtype: 'toString', shape: [1], data_offsets: [0, 4] } },
      4,
      'TENSORS_ENTRY',
    ],
    ['has a negative size', { a: f32([-1], 0, 4) }, 4, 'TENSORS_ENTRY'],
    ['has a fractional size', { a: f32([1.5], 0, 6) }, 6, 'TENSORS_ENTRY'],
    ['has a thousand dimensions', { a: f32(Array(1000).fill(1), 0, 4) }, 4, 'TENSORS_ENTRY'],
    ['has a shape that does not fit its bytes', { a: f32([2], 0, 4) }, 4, 'TENSORS_ENTRY'],
    // The first size, 2^32 · 2^32 · 4, wraps to 0 in 64 bits. The second shape has an odd number of values above 2^53, which
    // is not representable as a double.
    ['has a shape that overflows', { a: f32([2 ** 32, 2 ** 32], 0, 0) }, 0, 'TENSORS_ENTRY'],
    ['has a shape past exact doubles', { a: f32([4194305, 2147483649], 0, 4) }, 4, 'TENSORS_ENTRY'],
    ['has descending offsets', { a: f32([1], 4, 0) }, 4, 'TENSORS_ENTRY'],
    ['has overlapping tensors', { a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12, 'TENSORS_ENTRY'],
    ['has the same bytes twice', { a: f32([1], 0, 4), b: f32([1], 0, 4) }, 4, 'TENSORS_ENTRY'],
    ['leaves a gap', { a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12, 'TENSORS_ENTRY'],
    ['does not start at 0', { a: f32([1], 4, 8) }, 8, 'TENSORS_ENTRY'],
    ['leaves bytes at the end', { a: f32([1], 0, 4) }, 5, 'TENSORS_ENTRY'],
    ['points past the end', { a: f32([2], 0, 8) }, 4, 'TENSORS_TRUNCATED'],
    ['points far past the end', { a: f32([2 ** 20, 2 ** 20], 0, 2 ** 42) }, 4, 'TENSORS_TRUNCATED'],
  ];

  test.each(cases)('%s', async (_, header, dataBytes, expected) => {
    const bytes = rawSafetensors(header, dataBytes);
    expect(() => decodeHeader(bytes, 'x', MAX_HEADER_BYTES)).toThrow(withCode(expected));
    const path = join(await temporaryFolder(), 'x.safetensors');
    await writeFile(path, bytes);
    await expect(readHeader(path)).rejects.toMatchObject({ code: expected });
  });

  test.each([
    ['more than the limit', BigInt(MAX_HEADER_BYTES) + 1n, 'TENSORS_HEADER'],
    ['the largest u64', 2n ** 64n - 1n, 'TENSORS_HEADER'],
    ['more than the file has', 1000n, 'TENSORS_TRUNCATED'],
  ])('claims a length of %s', async (_, declared, expected) => {
    const bytes = rawSafetensors('{}', 0, declared);
    expect(() => decodeHeader(bytes, 'x', MAX_HEADER_BYTES)).toThrow(withCode(expected));
    const path = join(await temporaryFolder(), 'x.safetensors');
    await writeFile(path, bytes);
    await expect(readHeader(path)).rejects.toMatchObject({ code: expected });
  });

  test('has a wrong length, with file, tensor, expected and found values in the error', () => {
    const bytes = rawSafetensors({ a: f32([2, 3], 0, 8) }, 8);
    expect(() => decodeHeader(bytes, 'w.safetensors', MAX_HEADER_BYTES)).toThrow(
      expect.objectContaining({
        values: expect.objectContaining({ file: 'w.safetensors', tensor: 'a', expected: '24', found: 8 }),
      }),
    );
  });
});

test('refuses a file of fewer than 8 bytes, a missing file and a folder', async () => {
  const dir = await temporaryFolder();
  await writeFile(join(dir, 'short'), new Uint8Array(5));
  await expect(readHeader(join(dir, 'short'))).rejects.toMatchObject({ code: 'TENSORS_TRUNCATED' });
  await expect(readHeader(join(dir, 'absent'))).rejects.toMatchObject({ code: 'MODEL_FILE_MISSING' });
  await expect(readHeader(dir)).rejects.toMatchObject({ code: 'MODEL_FILE_MISSING' });
});

test('random bytes and damaged files give a header or a typed error', async () => {
  const valid = new Uint8Array(
    await readFile(join(FIXTURES, 'llama-tiny-tied/adapter/adapter_model.safetensors')),
  );
  const attempt = (bytes: Uint8Array) => {
    try {
      decodeHeader(bytes, 'x', MAX_HEADER_BYTES);
    } catch (error) {
      if (!isSwarmError(error)) throw error;
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), attempt));
  const damage = fc.record({ at: fc.nat(3000), value: fc.nat(255), length: fc.nat(valid.length) });
  fc.assert(
    fc.property(damage, fc.boolean(), ({ at, value, length }, cut) => {
      const bytes = valid.slice(0, cut ? length : valid.length);
      if (at < bytes.length) bytes[at] = value;
      attempt(bytes);
    }),
  );
});

test('reads what it wrote, for every element type; equal tensors give equal bytes', async () => {
  const path = join(await temporaryFolder(), 'x.safetensors');
  const values = Float32Array.of(1, -2.5, 0.125, 65504, 0, 3);
  const tensors = [
    { name: 'half', dtype: 'F16' as const, shape: [2, 3], data: values },
    { name: 'z', dtype: 'F32' as const, shape: [6], data: values },
    {
      name: 'brain',
      dtype: 'BF16' as const,
      shape: [3, 2],
      data: values.map((v) => (v === 65504 ? 65536 : v)),
    },
    { name: 'a', dtype: 'F32' as const, shape: [1, 6], data: values },
  ];
  await writeSafetensors(path, tensors, { format: 'pt', note: 'ö' });
  const bytes = new Uint8Array(await readFile(path));
  expect(encodeSafetensors(tensors.toReversed(), { note: 'ö', format: 'pt' })).toEqual(bytes);

  const { entries, metadata } = await readHeader(path);
  expect(metadata).toEqual({ format: 'pt', note: 'ö' });
  expect([...entries.keys()]).toEqual(['a', 'z', 'brain', 'half']);
  expect([...entries.values()].every(({ offset, length }) => (offset * 4) % 8 === 0 && length > 0)).toBe(
    true,
  );
  for (const { name, shape, data } of tensors) {
    expect(entries.get(name)!.shape).toEqual(shape);
    expect(await readTensor(path, entries.get(name)!), name).toEqual(data);
  }
});

test('reads a tensor in chunks of whole elements', async () => {
  const path = join(await temporaryFolder(), 'x.safetensors');
  const data = Float32Array.from({ length: 1000 }, (_, i) => i);
  await writeSafetensors(path, [{ name: 'a', dtype: 'F32', shape: [1000], data }]);
  const { entries } = await readHeader(path);
  const sizes: number[] = [];
  const found: number[] = [];
  for await (const chunk of tensorChunks(path, entries.get('a')!, 1024)) {
    sizes.push(chunk.byteLength);
    found.push(...new Float32Array(chunk.slice().buffer));
  }
  expect(sizes).toEqual([1024, 1024, 1024, 928]);
  expect(found).toEqual([...data]);
});

test('refuses a file that shrank after its header was read', async () => {
  const path = join(await temporaryFolder(), 'x.safetensors');
  await writeSafetensors(path, [{ name: 'a', dtype: 'F32', shape: [1000], data: new Float32Array(1000) }]);
  const { entries } = await readHeader(path);
  await truncate(path, 2000);
  await expect(readTensor(path, entries.get('a')!)).rejects.toMatchObject({ code: 'TENSORS_TRUNCATED' });
});

test('does not read an integer tensor as weights', async () => {
  const path = join(await temporaryFolder(), 'x.safetensors');
  await writeFile(path, rawSafetensors({ a: { dtype: 'I64', shape: [1], data_offsets: [0, 8] } }, 8));
  const { entries } = await readHeader(path);
  await expect(readTensor(path, entries.get('a')!)).rejects.toMatchObject({ code: 'TENSORS_DTYPE' });
});

test('refuses values that do not fill the shape, and leaves no file', async () => {
  const dir = await temporaryFolder();
  const short = { name: 'a', dtype: 'F32' as const, shape: [3], data: new Float32Array(2) };
  await expect(writeSafetensors(join(dir, 'x'), [short])).rejects.toMatchObject({ code: 'TENSORS_ENTRY' });
  const streamed = {
    ...short,
    data: async function* () {
      yield new Uint8Array(8);
    },
  };
  await expect(writeSafetensors(join(dir, 'x'), [streamed])).rejects.toMatchObject({ code: 'TENSORS_ENTRY' });
  expect(() => encodeSafetensors([short])).toThrow(withCode('TENSORS_ENTRY'));
  expect(await readdir(dir)).toEqual([]);
});
