import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type Engine } from '../../../../lora/engines/engine.ts';
import { prepareWeights } from '../../../../lora/models/weights/prepare-weights.ts';
import { adaptedParameters } from '../../../../lora/train/adapted-model.ts';
import { AdamW } from '../../../../lora/train/optimizer/adamw.ts';
import { lossAndGradients, trainingGraph } from '../../../../lora/train/step.ts';
import { maxDifference, openReference } from '../../../utils/models/reference.ts';

/** Largest difference from transformers + PEFT + torch.optim.AdamW after three steps, in float32. */
const TOLERANCE = 1e-4;

let cacheDir: string;
let engine: Engine;

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'parity-test-'));
  engine = await createEngine('onnx-cpu', { threads: 1 });
});

afterAll(() => rm(cacheDir, { recursive: true, force: true }));

describe.each(['tied', 'untied'] as const)('three AdamW steps on the adapter, %s output head', (variant) => {
  test.each([
    { rowsOf: 'plain', batch: 2 },
    { rowsOf: 'packed', batch: 2 },
    { rowsOf: 'packed', batch: 1 },
  ] as const)('$rowsOf rows, $batch at a time', async ({ rowsOf, batch }) => {
    const { model, adapter, rows, losses, settings, tensor } = await openReference(variant);
    const { config, architecture } = model;
    const { length } = settings;
    const { graph } = trainingGraph({ config, architecture, batch, length }, (graph) =>
      adaptedParameters(graph, model, adapter.lora),
    );
    const executable = await engine.compile(graph, await prepareWeights(model, cacheDir));
    const typedRows = rows[rowsOf].map(({ ids, segments, labels }) => ({
      ids: Uint32Array.from(ids),
      segments: Uint16Array.from(segments),
      labels: Int32Array.from(labels),
    }));
    const values = adapter.tensors.map((values) => values.slice());
    const found = values.map((values) => new Float32Array(values.length));
    const named = new Map(adapter.layout.map(({ name }, i) => [name, values[i]!]));
    const optimizer = new AdamW({
      tensors: values.map((values) => ({ size: values.length, decay: true })),
      betas: settings.betas,
      epsilon: settings.eps,
      weightDecay: settings.weight_decay,
    });
    for (let step = 0; step < settings.steps; step++) {
      const { lossSum, tokens } = await lossAndGradients(executable, typedRows, named, found, {
        batch,
        length,
        pause: async () => {},
      });
      expect(Math.abs(lossSum / tokens - losses[rowsOf][step]!), `loss of step ${step}`).toBeLessThan(
        TOLERANCE,
      );
      optimizer.step(values, found, {
        learningRate: settings.lr,
        gradientScale: 1 / tokens,
        clipNorm: settings.clipNorm,
      });
    }
    await executable.dispose();
    for (const [i, { name }] of adapter.layout.entries()) {
      const theirs = await tensor(`${rowsOf}.trained.${name}`);
      expect(maxDifference(values[i]!, theirs), name).toBeLessThan(TOLERANCE);
      expect(maxDifference(values[i]!, adapter.tensors[i]!), `${name} was trained`).toBeGreaterThan(
        TOLERANCE,
      );
    }
  });
});
