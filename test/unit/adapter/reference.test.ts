import { readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mergeAdapter } from '../../../lora/adapter/merge.ts';
import { readPeftFolder, writePeftFolder } from '../../../lora/adapter/peft.ts';
import { createEngine, type Engine } from '../../../lora/engines/engine.ts';
import { savedName } from '../../../lora/models/lora.ts';
import { openModel, prepareWeights } from '../../../lora/models/model.ts';
import { AdamW } from '../../../lora/train/adamw.ts';
import { adaptedParameters } from '../../../lora/train/adapted.ts';
import { lossAndGradients, trainingGraph } from '../../../lora/train/step.ts';
import { inFloat32, logitsOf, openAdapterCase } from '../../utils/adapters.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { FIXTURES, maxDifference } from '../../utils/reference.ts';

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
  test('gives the same logits here', async () => {
    const { model, adapter, rows, tensor } = await openAdapterCase(name);
    const ours = await logitsOf({ model, rows, engine, cacheDir }, adapter);
    expect(maxDifference(ours, await tensor('logits'))).toBeLessThan(TOLERANCE);
    expect(maxDifference(ours, await logitsOf({ model, rows, engine, cacheDir }, null))).toBeGreaterThan(
      10 * TOLERANCE,
    );
  });

  test('has the same gradients, and the same values after three steps of AdamW', async () => {
    const { model, adapter, rows, seeds, losses, settings, tensor } = await openAdapterCase(name);
    const { config, architecture } = model;
    const { batch, length } = settings;
    const { graph, parameters } = trainingGraph({ config, architecture, batch, length }, (graph) =>
      adaptedParameters(graph, model, adapter.lora, { training: true }),
    );
    expect(new Set(parameters.map(({ name }) => name))).toEqual(
      new Set(adapter.layout.map(({ name }) => name)),
    );
    const executable = await engine.compile(graph, await prepareWeights(model, cacheDir));
    const values = adapter.tensors.map((tensor) => tensor.slice());
    const sums = values.map(({ length }) => new Float32Array(length));
    const named = new Map(adapter.layout.map(({ name }, i) => [name, values[i]!]));
    const optimizer = new AdamW({
      tensors: values.map(({ length }) => ({ size: length, decay: true })),
      betas: settings.betas,
      epsilon: settings.eps,
      weightDecay: settings.weight_decay,
    });
    const random = graph.inputs.has('seed');
    expect(random).toBe(adapter.lora.dropout > 0);
    for (const [step, seed] of seeds.entries()) {
      const fed = { seed: BigInt64Array.of(BigInt(seed)) };
      const { lossSum, tokens } = await lossAndGradients(executable, rows, named, sums, {
        batch,
        length,
        ...(random ? { randomness: () => fed } : {}),
        pause: async () => {},
      });
      expect(Math.abs(lossSum / tokens - losses[step]!), `loss of step ${step}`).toBeLessThan(TOLERANCE);
      for (const [i, { name }] of adapter.layout.entries()) {
        if (step > 0) break;
        const ours = sums[i]!.map((sum) => sum / tokens);
        expect(maxDifference(ours, await tensor(`gradients.${name}`)), name).toBeLessThan(TOLERANCE);
      }
      optimizer.step(values, sums, {
        learningRate: settings.lr,
        gradientScale: 1 / tokens,
        clipNorm: settings.clipNorm,
      });
    }
    await executable.dispose();
    for (const [i, { name }] of adapter.layout.entries()) {
      const theirs = await tensor(`trained.${name}`);
      expect(maxDifference(values[i]!, theirs), name).toBeLessThan(TOLERANCE);
      expect(maxDifference(values[i]!, adapter.tensors[i]!), `${name} was trained`).toBeGreaterThan(
        TOLERANCE,
      );
    }
  });

  test('is the same adapter when written and read here', async () => {
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

  test('gives the same logits when merged, or says why it cannot be', async () => {
    const { model, adapter, rows } = await openAdapterCase(name);
    const parent = await temporaryFolder();
    // Merged weights are rounded to the base's element type: in 16 bits they would tell nothing about the formula.
    const base = await inFloat32(model, join(parent, 'base'));
    const merged = mergeAdapter(base, adapter, join(parent, 'merged'));
    const { embedding, head } = model.architecture;
    const shared = [embedding.replace(/weight$/, ''), `${head}.`].map(savedName);
    const changes = adapter.layout.some(({ name }) => shared.some((module) => name.startsWith(module)));
    if (model.config.tieWordEmbeddings && changes) {
      await expect(merged).rejects.toThrow(expect.objectContaining({ code: 'ADAPTER_TIED_HEAD' }));
      return;
    }
    await merged;
    const deps = { rows, engine, cacheDir };
    const ours = await logitsOf({ ...deps, model: await openModel(join(parent, 'merged')) }, null);
    expect(maxDifference(ours, await logitsOf({ ...deps, model: base }, adapter))).toBeLessThan(TOLERANCE);
  });
});
