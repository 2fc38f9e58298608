import { readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mergeIntoBase } from '../../../../lora/adapter/merge-into-base.ts';
import { readPeftFolder, writePeftFolder } from '../../../../lora/adapter/peft.ts';
import { createEngine, type Engine } from '../../../../lora/engines/engine.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import { savedName } from '../../../../lora/models/lora.ts';
import { logitsOf, measureAdapter, openAdapterCase } from '../../../../scripts/reference/adapter-parity.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { inFloat32 } from '../../../utils/models/adapters.ts';
import { FIXTURES, maxDifference } from '../../../utils/models/reference.ts';

/** Largest difference from PEFT's results in float32. */
const TOLERANCE = 1e-4;

let engine: Engine;
let cacheDir: string;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'adapter-test-'));
  engine = await createEngine('onnx-cpu', { threads: 1 });
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

describe.each(readdirSync(join(FIXTURES, 'adapters')))('%s, written and trained by PEFT', (name) => {
  test('gives the same logits as in PEFT', async () => {
    const { model, adapter, rows, tensor } = await openAdapterCase(name);
    const ours = await logitsOf({ model, rows, engine, cacheDir }, adapter);
    expect(maxDifference(ours, await tensor('logits'))).toBeLessThan(TOLERANCE);
    expect(maxDifference(ours, await logitsOf({ model, rows, engine, cacheDir }, null))).toBeGreaterThan(
      10 * TOLERANCE,
    );
  });

  test('has the same gradients, and the same values after three steps of AdamW', async () => {
    const reference = await openAdapterCase(name);
    const { losses, gradients, trained, moved } = await measureAdapter(reference, { engine, cacheDir });
    expect(losses).toBeLessThan(TOLERANCE);
    const names = reference.adapter.layout.map((tensor) => tensor.name);
    expect([...trained.keys()].sort()).toEqual(names);
    for (const tensor of names) {
      expect(gradients.get(tensor), tensor).toBeLessThan(TOLERANCE);
      expect(trained.get(tensor), tensor).toBeLessThan(TOLERANCE);
      expect(moved.get(tensor), `${tensor} was trained`).toBeGreaterThan(TOLERANCE);
    }
  });

  test('is unchanged after writing and reading', async () => {
    const { model, adapter } = await openAdapterCase(name);
    const dir = await temporaryFolder();
    const { baseModelName, revision } = adapter;
    await writePeftFolder(dir, { ...adapter, baseModelName, revision });
    const { lora, ...rest } = await readPeftFolder(dir, model);
    const { lora: before, ...others } = adapter;
    expect(rest).toEqual(others);
    expect({ ...lora, targets: new Set(lora.targets) }).toEqual({
      ...before,
      targets: new Set(before.targets),
    });
  });

  test('gives the same logits after merging, or cannot be merged', async () => {
    const { model, adapter, rows } = await openAdapterCase(name);
    const parent = await temporaryFolder();
    // The base has float32 weights, because rounding merged weights to 16 bits would hide errors of the formula.
    const base = await inFloat32(model, join(parent, 'base'));
    const merged = mergeIntoBase(base, adapter, join(parent, 'merged'));
    const { embedding, head } = model.architecture;
    const shared = [embedding.replace(/weight$/, ''), `${head}.`].map(savedName);
    const changes = adapter.layout.some(({ name }) => shared.some((module) => name.startsWith(module)));
    if (model.config.tieWordEmbeddings && changes) {
      await expect(merged).rejects.toMatchObject({ code: 'ADAPTER_TIED_HEAD' });
      return;
    }
    await merged;
    const deps = { rows, engine, cacheDir };
    const ours = await logitsOf({ ...deps, model: await openBase(join(parent, 'merged')) }, null);
    expect(maxDifference(ours, await logitsOf({ ...deps, model: base }, adapter))).toBeLessThan(TOLERANCE);
  });
});
