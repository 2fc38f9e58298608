import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readGguf, tensorFloats } from '../../../../../lora/models/gguf/reader.ts';
import { type WrittenValue, writeGguf } from '../../../../../lora/models/gguf/writer.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';

const metadata = new Map<string, WrittenValue>([
  ['general.architecture', { type: 'string', value: 'llama' }],
  ['a.number', { type: 'u32', value: 2 ** 32 - 1 }],
  ['a.float', { type: 'f32', value: 0.5 }],
  ['a.flag', { type: 'bool', value: false }],
  ['a.texts', { type: 'string[]', value: ['▁a', ''] }],
  ['some.ids', { type: 'i32[]', value: [-1, 7] }],
  ['some.scores', { type: 'f32[]', value: [-1.5] }],
  // Longer than the bytes that a reader reads first, so that it must read twice.
  ['long', { type: 'string', value: 'x'.repeat(2 ** 21) }],
]);

test('a written file has the same values when it is read', async () => {
  const path = join(await temporaryFolder(), 'x.gguf');
  const values = Float32Array.from({ length: 3 * 32 }, (_, i) => i - 48);
  const reports: [number, number][] = [];
  const size = await writeGguf(
    path,
    metadata,
    [
      { name: 'f32', type: 'F32', shape: [5], data: () => [values.subarray(0, 2), values.subarray(2, 5)] },
      { name: 'f16', type: 'F16', shape: [3, 32], data: () => [values.subarray(0, 64), values.subarray(64)] },
      { name: 'q8', type: 'Q8_0', shape: [3, 32], data: () => [values] },
    ],
    { onProgress: (done, total) => reports.push([done, total]) },
  );
  const header = await readGguf(path);
  expect([...header.metadata]).toEqual([...metadata].map(([key, { value }]) => [key, value]));
  const read = async (name: string) => {
    const found: number[] = [];
    for await (const part of tensorFloats(path, header.tensors.get(name)!)) found.push(...part);
    return found;
  };
  expect(await read('f32')).toEqual([...values.subarray(0, 5)]);
  expect(await read('f16')).toEqual([...values]);
  for (const [i, value] of (await read('q8')).entries()) expect(value).toBeCloseTo(values[i]!, 0);
  expect(header.tensors.get('q8')).toMatchObject({ type: 'Q8_0', shape: [3, 32] });
  const total = 5 * 4 + 96 * 2 + 3 * 34;
  expect(reports.map(([done]) => done)).toEqual([8, 20, 148, 212, total]);
  expect(new Set(reports.map(([, all]) => all))).toEqual(new Set([total]));
  expect(size % 32).toBe(0);
});

test('a file can have as many tokens as the largest vocabularies', async () => {
  const path = join(await temporaryFolder(), 'x.gguf');
  const tokens = Array.from({ length: 300_000 }, (_, i) => `▁${i}`);
  const values = new Map<string, WrittenValue>([
    ['tokens', { type: 'string[]', value: tokens }],
    ['types', { type: 'i32[]', value: tokens.map(() => 1) }],
  ]);
  await writeGguf(path, values, []);
  const read = (await readGguf(path)).metadata;
  expect((read.get('tokens') as string[]).at(-1)).toBe('▁299999');
  expect((read.get('types') as number[]).length).toBe(300_000);
});

test.each([
  ['data that do not fill the shape', { name: 'w', type: 'F32' as const, shape: [4] }],
  ['rows of half a block', { name: 'w', type: 'Q8_0' as const, shape: [3, 16] }],
  ['a name of 64 bytes', { name: 'w'.repeat(64), type: 'F32' as const, shape: [2] }],
])('%s gives an error and no file', async (_, tensor) => {
  const dir = await temporaryFolder();
  const data = () => [new Float32Array(2)];
  const written = writeGguf(join(dir, 'x.gguf'), metadata, [{ ...tensor, data }]);
  await expect(written).rejects.toMatchObject({ code: 'GGUF_WRITE', values: { tensor: tensor.name } });
  expect(await readdir(dir)).toEqual([]);
});

test('an aborted write throws the reason and leaves no file', async () => {
  const dir = await temporaryFolder();
  const reason = new Error('stop');
  const data = () => [new Float32Array(4)];
  const written = writeGguf(join(dir, 'x.gguf'), metadata, [{ name: 'w', type: 'F32', shape: [4], data }], {
    signal: AbortSignal.abort(reason),
  });
  await expect(written).rejects.toBe(reason);
  expect(await readdir(dir)).toEqual([]);
});
