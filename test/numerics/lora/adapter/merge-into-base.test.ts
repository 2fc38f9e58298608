import { mkdirSync, writeFileSync } from 'node:fs';
import { chmod, lstat, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { initialMatrices } from '../../../../lora/adapter/initial.ts';
import { adapterLayout } from '../../../../lora/adapter/layout.ts';
import { loraConfig } from '../../../../lora/adapter/lora-config.ts';
import { mergeIntoBase } from '../../../../lora/adapter/merge-into-base.ts';
import type { Adapter } from '../../../../lora/adapter/peft.ts';
import { describeBase } from '../../../../lora/models/base/base-identity.ts';
import { type BaseModel, openBase } from '../../../../lora/models/base/base-model.ts';
import { readTensor } from '../../../../lora/models/weights/safetensors.ts';
import { copyOf, temporaryFolder } from '../../../utils/folder.ts';
import { FIXTURES, maxDifference, openReference } from '../../../utils/models/reference.ts';
import { expectNewFiles } from '../../../utils/source/platform.ts';

async function valuesOf(model: BaseModel, name: string): Promise<Float32Array> {
  const { file, entry } = model.tensors.get(name)!;
  return readTensor(join(model.dir, file), entry);
}

function find(adapter: Adapter, name: string) {
  return adapter.tensors[adapter.layout.findIndex((tensor) => tensor.name === name)]!;
}

test.each(['tied', 'untied'] as const)('replaces W by W + (α/r)·B A, %s', async (variant) => {
  const { model, adapter } = await openReference(variant);
  const dir = join(await temporaryFolder(), 'merged');
  const reports: [number, number][] = [];
  await mergeIntoBase(model, adapter, dir, { onProgress: (...report) => reports.push(report) });
  const merged = await openBase(dir);
  const bytes = [...merged.tensors.values()].reduce((sum, { entry }) => sum + entry.length, 0);
  expect(reports.at(-1)).toEqual([bytes, bytes]);
  expect(merged.config).toEqual(model.config);
  // The 16-bit variant rounds merged weights to 8 bits of mantissa: the error is at most 2⁻⁹ of a value, and values are
  // below 4.
  const tolerance = variant === 'tied' ? 1e-6 : 4 * 2 ** -9;
  let adapted = 0;
  for (const [name, { entry, file }] of model.tensors) {
    expect(merged.tensors.get(name)?.entry).toMatchObject({ dtype: entry.dtype, shape: entry.shape });
    expect(merged.tensors.get(name)?.file).toBe(file);
    const [before, after] = [await valuesOf(model, name), await valuesOf(merged, name)];
    const module = `base_model.model.${name.replace(/\.weight$/, '')}`;
    const a = find(adapter, `${module}.lora_A.weight`);
    if (!a) {
      expect(after, name).toEqual(before);
      continue;
    }
    const b = find(adapter, `${module}.lora_B.weight`);
    const { rank, alpha } = adapter.lora;
    const width = entry.shape[1]!;
    const expected = before.map((w, i) => {
      const [row, column] = [Math.floor(i / width), i % width];
      let product = 0;
      for (let r = 0; r < rank; r++) product += b[row * rank + r]! * a[r * width + column]!;
      return w + (alpha / rank) * product;
    });
    expect(maxDifference(after, expected), name).toBeLessThan(tolerance);
    expect(maxDifference(after, before), name).toBeGreaterThan(0.01);
    adapted++;
  }
  expect(adapted).toBe(adapter.layout.length / 2);
  for (const file of ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'generation_config.json'])
    expect(await readFile(join(dir, file))).toEqual(await readFile(join(model.dir, file)));
});

test('copies the chat template for tools', async () => {
  const { model, adapter } = await openReference('tied');
  const base = await openBase(await copyOf(model.dir));
  await mkdir(join(base.dir, 'additional_chat_templates'));
  const tools = join(base.dir, 'additional_chat_templates/tool_use.jinja');
  await writeFile(tools, '{{ tools }}');
  for (const file of [tools, join(base.dir, 'config.json')]) await chmod(file, 0o600);
  const dir = join(await temporaryFolder(), 'merged');
  await mergeIntoBase(base, adapter, dir);
  // The model gets the permissions of new files, although files of the base are private.
  await expectNewFiles(dir);
  expect(await readFile(join(dir, 'additional_chat_templates/tool_use.jinja'), 'utf8')).toBe('{{ tools }}');
});

test('writes the total size of the tensors into the index of a sharded model', async () => {
  const { model, adapter } = await openReference('untied');
  const dir = join(await temporaryFolder(), 'merged');
  await mergeIntoBase(model, adapter, dir);
  const index = JSON.parse(await readFile(join(dir, 'model.safetensors.index.json'), 'utf8'));
  const total = [...model.tensors.values()].reduce((sum, { entry }) => sum + entry.length, 0);
  expect(index.metadata.total_size).toBe(total);
  expect(Object.keys(index.weight_map)).toEqual([...model.tensors.keys()].sort());
});

test('refuses a base that the adapter was not trained on', async () => {
  const { model, adapter } = await openReference('tied');
  const parent = await temporaryFolder();
  const { digest } = await describeBase(model.dir);
  await mergeIntoBase(model, { ...adapter, baseDigest: digest }, join(parent, 'good'));
  const wrong = mergeIntoBase(model, { ...adapter, baseDigest: 'ef'.repeat(32) }, join(parent, 'wrong'));
  await expect(wrong).rejects.toMatchObject({ code: 'ADAPTER_BASE' });
  const other = await openBase(join(FIXTURES, 'llama-tiny-untied'));
  await expect(mergeIntoBase(other, adapter, join(parent, 'other'))).rejects.toMatchObject({
    code: 'ADAPTER_BASE',
  });
  expect(await readdir(parent)).toEqual(['good']);
});

test("writes the adapter's chat template in place of the base's", async () => {
  const { model, adapter } = await openReference('untied');
  const parent = await temporaryFolder();
  const template = join(parent, 'mine.jinja');
  await writeFile(template, '{{ messages }}');
  const dir = join(parent, 'merged');
  await mergeIntoBase(model, adapter, dir, { template });
  expect(await readFile(join(dir, 'chat_template.jinja'), 'utf8')).toBe('{{ messages }}');
});

test('refuses an adapter on a tied output head', async () => {
  const { model } = await openReference('tied');
  const lora = loraConfig({ rank: 2, alpha: 4, targets: ['lm_head'] });
  const layout = adapterLayout(model, lora);
  const tensors = initialMatrices(layout, 1);
  const adapter = { layout, tensors, lora, baseModelName: null, revision: null, baseDigest: null };
  const dir = join(await temporaryFolder(), 'merged');
  await expect(mergeIntoBase(model, adapter, dir)).rejects.toMatchObject({ code: 'ADAPTER_TIED_HEAD' });
});

test('overwrites nothing, and leaves nothing after a failure', async () => {
  const { model, adapter } = await openReference('tied');
  const parent = await temporaryFolder();
  const dir = join(parent, 'merged');
  await mkdir(dir);
  await writeFile(join(dir, 'mine'), 'x');
  await expect(mergeIntoBase(model, adapter, dir)).rejects.toMatchObject({ code: 'OUTPUT_EXISTS' });
  expect(await readdir(dir)).toEqual(['mine']);

  const huge = adapter.tensors.map((values) => values.map(() => 3e38));
  const overflow = mergeIntoBase(model, { ...adapter, tensors: huge }, join(parent, 'overflow'));
  await expect(overflow).rejects.toMatchObject({ code: 'ADAPTER_NOT_FINITE' });
  const aborted = mergeIntoBase(model, adapter, join(parent, 'aborted'), { signal: AbortSignal.abort() });
  await expect(aborted).rejects.toThrow();
  expect(await readdir(parent)).toEqual(['merged']);

  const empty = join(parent, 'empty');
  await mkdir(empty);
  await mergeIntoBase(model, adapter, empty);
  expect(await readdir(empty)).toContain('model.safetensors');
});

test('does not overwrite a model that appears during the merge', async () => {
  const { model, adapter } = await openReference('tied');
  const parent = await temporaryFolder();
  const dir = join(parent, 'merged');
  const onProgress = (): void => {
    mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, 'model.safetensors'), 'x');
  };
  const late = mergeIntoBase(model, adapter, dir, { onProgress });
  await expect(late).rejects.toMatchObject({ code: 'OUTPUT_EXISTS' });
  expect(await readFile(join(dir, 'model.safetensors'), 'utf8')).toBe('x');
  expect(await readdir(parent)).toEqual(['merged']);
});

test.skipIf(process.platform === 'win32')(
  'writes into the folder that a link names, and keeps the link',
  async () => {
    const { model, adapter } = await openReference('tied');
    const parent = await temporaryFolder();
    const [dir, link] = [join(parent, 'merged'), join(parent, 'link')];
    await mkdir(dir);
    await symlink(dir, link);
    await mergeIntoBase(model, adapter, link);
    await mergeIntoBase(model, adapter, link, { force: true });
    expect(await readdir(dir)).toContain('model.safetensors');
    expect((await lstat(link)).isSymbolicLink()).toBe(true);
  },
);

test('with force, replaces a model and keeps other files, but never replaces the base', async () => {
  const { model, adapter } = await openReference('tied');
  const parent = await temporaryFolder();
  const [dir, base] = [join(parent, 'merged'), join(parent, 'base')];
  await mkdir(join(dir, 'additional_chat_templates'), { recursive: true });
  const stale = ['model-00001-of-00002.safetensors', 'model.safetensors.index.json', 'vocab.json'];
  for (const file of [...stale, 'adapter_model.safetensors', 'mine', 'LICENSE'])
    await writeFile(join(dir, file), 'x');
  await mergeIntoBase(model, adapter, dir, { force: true });
  const written = await readdir(dir);
  expect(written).toEqual(expect.arrayContaining(['adapter_model.safetensors', 'mine', 'model.safetensors']));
  for (const file of [...stale, 'additional_chat_templates']) expect(written).not.toContain(file);
  expect(await readFile(join(dir, 'LICENSE'), 'utf8')).toBe('x');
  expect(await readdir(parent)).toEqual(['merged']);
  const merged = await openBase(dir);

  const exported = join(parent, 'exported');
  await mkdir(exported);
  await writeFile(join(exported, 'adapter_config.json'), '{}');
  const mixed = mergeIntoBase(model, adapter, exported, { force: true });
  await expect(mixed).rejects.toMatchObject({ code: 'OUTPUT_EXISTS', values: { dir: exported } });
  expect(await readdir(exported)).toEqual(['adapter_config.json']);

  await mergeIntoBase(merged, adapter, base);
  const own = mergeIntoBase(await openBase(base), adapter, base, { force: true });
  await expect(own).rejects.toMatchObject({ code: 'OUTPUT_EXISTS', values: { dir: base } });
});
