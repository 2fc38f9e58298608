import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isSwarmError } from '../../../../../common/errors.ts';
import { exportGguf } from '../../../../../lora/adapter/export-gguf.ts';
import { describeBase } from '../../../../../lora/models/base/base-identity.ts';
import { findBase } from '../../../../../lora/models/base/find-base.ts';
import { importGguf } from '../../../../../lora/models/gguf/import-model.ts';
import { parseGguf } from '../../../../../lora/models/gguf/reader.ts';
import { type WrittenValue, writeGguf } from '../../../../../lora/models/gguf/writer.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';
import { makeTinyModel } from '../../../../utils/models/tiny-model.ts';

let folder: string;
let bytes: Buffer;
let metadata: Map<string, WrittenValue>;
let tensors: { name: string; shape: readonly number[] }[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'swarm-test-'));
  const dir = await makeTinyModel(join(folder, 'tiny'));
  const { file } = await exportGguf({
    base: dir,
    output: join(dir, 'out'),
    type: 'f32',
    cacheDir: join(dir, 'c'),
  });
  bytes = await readFile(file);
  const header = parseGguf(bytes, bytes.length, file);
  metadata = new Map([...header.metadata].map(([key, value]) => [key, asWritten(value)]));
  tensors = [...header.tensors].map(([name, { shape }]) => ({ name, shape }));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

function asWritten(value: unknown): WrittenValue {
  if (typeof value === 'string') return { type: 'string', value };
  if (typeof value === 'boolean') return { type: 'bool', value };
  if (typeof value === 'number') return { type: Number.isInteger(value) ? 'u32' : 'f32', value };
  const list = value as (string | number)[];
  return typeof list[0] === 'string'
    ? { type: 'string[]', value: list as string[] }
    : { type: 'i32[]', value: list as number[] };
}

/** Imports a file with other metadata and tensors; the weights are zero. */
async function imported(
  change: (metadata: Map<string, WrittenValue>) => void,
  changed: readonly { name: string; shape: readonly number[] }[] = tensors,
): Promise<string> {
  const dir = await temporaryFolder();
  const own = new Map(metadata);
  change(own);
  const path = join(dir, 'x.gguf');
  await writeGguf(
    path,
    own,
    changed.map(({ name, shape }) => {
      const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
      return { name, type: 'F32' as const, shape, data: () => [values] };
    }),
  );
  const output = join(dir, 'out');
  await importGguf({ path, output }).catch(async (error: unknown) => {
    expect(await readdir(dir)).toEqual(['x.gguf']);
    throw error;
  });
  return output;
}

const text = (value: string): WrittenValue => ({ type: 'string', value });
const number = (value: number): WrittenValue => ({ type: 'u32', value });

describe('refuses', () => {
  const cases: [string, string, WrittenValue, string][] = [
    ['an unknown architecture', 'general.architecture', text('rwkv7'), 'GGUF_UNSUPPORTED'],
    ['an inherited architecture', 'general.architecture', text('toString'), 'GGUF_UNSUPPORTED'],
    ['an adapter', 'general.type', text('adapter'), 'GGUF_UNSUPPORTED'],
    ['a part of a split model', 'split.count', number(3), 'GGUF_UNSUPPORTED'],
    ['a mixture of experts', 'llama.expert_count', number(8), 'GGUF_UNSUPPORTED'],
    ['values of another width', 'llama.attention.value_length', number(4), 'GGUF_UNSUPPORTED'],
    ['partial rotation', 'llama.rope.dimension_count', number(4), 'GGUF_UNSUPPORTED'],
    ['unknown rotary positions', 'llama.rope.scaling.type', text('longrope'), 'GGUF_UNSUPPORTED'],
    ['heads per layer', 'llama.attention.head_count', { type: 'i32[]', value: [4, 4] }, 'GGUF_METADATA'],
    ['a size that is a text', 'llama.embedding_length', text('32'), 'GGUF_METADATA'],
    ['a million layers', 'llama.block_count', number(10 ** 6), 'MODEL_CONFIG'],
    ['another number of layers', 'llama.block_count', number(3), 'TENSORS_MISSING'],
    ['fewer layers', 'llama.block_count', number(1), 'TENSORS_UNEXPECTED'],
    ['another width', 'llama.feed_forward_length', number(65), 'TENSORS_SHAPE'],
  ];
  test.each(cases)('%s', async (_, key, value, code) => {
    await expect(imported((own) => own.set(key, value))).rejects.toMatchObject({ code });
  });

  test('an adapter, with the advice how to use one', async () => {
    const refused = imported((own) => own.set('general.type', text('adapter')));
    await expect(refused).rejects.toMatchObject({ next: expect.stringContaining('--adapter') });
  });

  test('a missing, an additional and a misshaped tensor', async () => {
    const extra = { name: 'blk.0.attn_q.lora_a', shape: [4] };
    const keep = () => {};
    await expect(imported(keep, tensors.slice(1))).rejects.toMatchObject({ code: 'TENSORS_MISSING' });
    await expect(imported(keep, [...tensors, extra])).rejects.toMatchObject({ code: 'TENSORS_UNEXPECTED' });
    const flat = tensors.map(({ name, shape }) => ({
      name,
      shape: name.includes('attn_q') ? [1024] : shape,
    }));
    await expect(imported(keep, flat)).rejects.toMatchObject({ code: 'TENSORS_SHAPE' });
    const factors = { name: 'rope_freqs.weight', shape: [4] };
    await expect(imported(keep, [...tensors, factors])).rejects.toMatchObject({ code: 'GGUF_UNSUPPORTED' });
  });
});

test('refuses heads of billions of dimensions before it allocates their frequencies', async () => {
  const factors = [...tensors, { name: 'rope_freqs.weight', shape: [4] }];
  const huge = imported((own) => own.set('llama.attention.key_length', number(4_000_000_000)), factors);
  await expect(huge).rejects.toMatchObject({ code: 'GGUF_METADATA' });
  const none = imported((own) => {
    own.delete('llama.attention.key_length');
    own.set('llama.attention.head_count', number(0));
  }, factors);
  await expect(none).rejects.toMatchObject({ code: 'GGUF_METADATA' });
  const other = imported((own) => own.set('llama.attention.key_length', number(8192)), factors);
  await expect(other).rejects.toMatchObject({ code: 'GGUF_UNSUPPORTED' });
});

test('metadata with a missing or another value is imported or refused with an error code', async () => {
  const values: (WrittenValue | null)[] = [
    null,
    number(0),
    number(2 ** 32 - 1),
    { type: 'f32', value: Number.NaN },
    { type: 'f32', value: -1 },
    { type: 'bool', value: true },
    text(''),
    text('gpt2'),
    { type: 'string[]', value: [] },
    { type: 'i32[]', value: [-1] },
  ];
  const keys = [...metadata.keys()];
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...keys), fc.constantFrom(...values), async (key, value) => {
      try {
        await imported((own) => (value === null ? own.delete(key) : own.set(key, value)));
      } catch (error) {
        if (!isSwarmError(error)) throw error;
      }
    }),
    { numRuns: 60 },
  );
});

describe('as a base', () => {
  test('a file is converted once, and equal files are the same base', async () => {
    const folder = await temporaryFolder();
    const environment = { SWARM_CACHE: join(folder, 'cache') };
    const [one, two] = ['model.gguf', 'Copy.GGUF'].map((name) => join(folder, name));
    for (const path of [one!, two!]) await writeFile(path, bytes);
    const reports: string[] = [];
    const find = (base: string) =>
      findBase({ base, folder, environment, onProgress: ({ file }) => reports.push(file) });
    const dir = await find('model.gguf');
    expect(dir.startsWith(environment.SWARM_CACHE)).toBe(true);
    expect(new Set(reports)).toEqual(new Set(['model.gguf']));
    reports.length = 0;
    expect(await find('./model.gguf')).toBe(dir);
    expect(reports).toEqual([]);
    const digest = async (path: string) => (await describeBase(path)).digest;
    expect(await digest(await find(two!))).toBe(await digest(dir));
  });

  test('two conversions at once give one folder', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'm.gguf'), bytes);
    const find = () =>
      findBase({ base: 'm.gguf', folder, environment: { SWARM_CACHE: join(folder, 'cache') } });
    const [a, b] = await Promise.all([find(), find()]);
    expect(a).toBe(b);
    expect((await readdir(a!)).sort()).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
  });
});
