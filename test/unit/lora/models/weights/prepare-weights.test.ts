import { spawnSync } from 'node:child_process';
import { appendFile, readdir, readFile, rename, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { describeBase } from '../../../../../lora/models/base/base-identity.ts';
import { openBase } from '../../../../../lora/models/base/base-model.ts';
import { prepareWeights } from '../../../../../lora/models/weights/prepare-weights.ts';
import { readTensor } from '../../../../../lora/models/weights/safetensors.ts';
import { encodeCbor, sha256 } from '../../../../../protocol/cbor.ts';
import { copyOf, temporaryFolder } from '../../../../utils/folder.ts';
import { FIXTURES } from '../../../../utils/models/reference.ts';

const UNTIED = join(FIXTURES, 'llama-tiny-untied');

test('the digest of a base covers config, tokenizer and weights', async () => {
  const dir = await copyOf(UNTIED);
  const { digest, files } = await describeBase(dir);
  expect(digest).toBe(sha256(encodeCbor(files)));
  expect(files.map(({ path }) => path)).toEqual([
    'config.json',
    'generation_config.json',
    'model-00001-of-00003.safetensors',
    'model-00002-of-00003.safetensors',
    'model-00003-of-00003.safetensors',
    'model.safetensors.index.json',
    'tokenizer.json',
    'tokenizer_config.json',
  ]);
  for (const file of files) {
    const bytes = await readFile(join(dir, file.path));
    expect(file).toEqual({ path: file.path, size: bytes.byteLength, digest: sha256(bytes) });
  }
  await writeFile(join(dir, 'README.md'), 'not part of the model');
  expect((await describeBase(dir)).digest).toBe(digest);
  await appendFile(join(dir, 'tokenizer_config.json'), '\n');
  expect((await describeBase(dir)).digest).not.toBe(digest);
});

test('converts weights to aligned float32, once per base', async () => {
  const model = await openBase(UNTIED);
  const cacheDir = join(await temporaryFolder(), 'cache');
  const { path, entries } = await prepareWeights(model, cacheDir);
  const bytes = await readFile(path);
  expect([...entries.keys()]).toEqual(model.architecture.parameters(model.config).map(({ name }) => name));
  for (const [name, { offset, length, shape }] of entries) {
    const { file, entry } = model.tensors.get(name)!;
    expect(offset % 4096).toBe(0);
    expect(shape).toEqual(entry.shape);
    const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset + offset).slice(0, length));
    expect(values, name).toEqual(await readTensor(join(UNTIED, file), entry));
  }

  const past = new Date(1e9);
  await utimes(path, past, past);
  expect(await prepareWeights(model, cacheDir)).toEqual({ path, entries });
  expect((await stat(path)).mtimeMs, 'kept').toBe(past.getTime());
  // A file of another size is replaced.
  await appendFile(path, 'x');
  await prepareWeights(model, cacheDir);
  expect(await readFile(path)).toEqual(bytes);
  expect(await readdir(cacheDir)).toHaveLength(1);
});

test('allows concurrent conversions, and deletes partial files of killed processes', async () => {
  const model = await openBase(UNTIED);
  const cacheDir = await temporaryFolder();
  const { digest } = await describeBase(UNTIED);
  const { pid: gone } = spawnSync(process.execPath, ['-e', '']);
  await writeFile(join(cacheDir, `${digest}.f32.${gone}-0.partial`), 'abandoned');
  await writeFile(join(cacheDir, `${digest}.f32.${process.pid}-999.partial`), 'alive');
  const [a, b] = await Promise.all([prepareWeights(model, cacheDir), prepareWeights(model, cacheDir)]);
  expect(a).toEqual(b);
  expect((await readdir(cacheDir)).sort()).toEqual([
    `${digest}.f32`,
    `${digest}.f32.${process.pid}-999.partial`,
  ]);
});

test('an aborted conversion leaves no file', async () => {
  const model = await openBase(UNTIED);
  const cacheDir = await temporaryFolder();
  const reason = new Error('enough');
  const attempt = prepareWeights(model, cacheDir, { signal: AbortSignal.abort(reason) });
  await expect(attempt).rejects.toThrow();
  expect(await readdir(cacheDir)).toEqual([]);
});

test('refuses a model whose files have changed since it was opened', async () => {
  const dir = await copyOf(UNTIED);
  const model = await openBase(dir);
  const shard = join(dir, 'model-00001-of-00003.safetensors');
  await rename(shard, `${shard}.moved`);
  await expect(prepareWeights(model, await temporaryFolder())).rejects.toMatchObject({
    code: 'MODEL_FILE_MISSING',
  });
});
