import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type Engine } from '../../../../lora/engines/engine.ts';
import { Graph, type Tensor } from '../../../../lora/graph/graph.ts';
import type { Architecture } from '../../../../lora/models/architecture.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import { FAMILIES } from '../../../../lora/models/families.ts';
import { frozenParameters, weightOf } from '../../../../lora/models/parameters.ts';
import { sequenceInputs } from '../../../../lora/models/sequences.ts';
import { trainableParameters } from '../../../../scripts/pretrain/trainable-parameters.ts';
import { measureParity, QUANTITIES } from '../../../../scripts/reference/parity.ts';
import { FIXTURES } from '../../../utils/models/reference.ts';
import { withCode } from '../../../utils/source/codes.ts';

/** Largest difference from transformers + PEFT in float32, for values of the order of 1. */
const ABSOLUTE = 1e-4;
/** Largest such difference relative to the largest value of a tensor. */
const RELATIVE = 1e-3;

const VARIANTS = [
  'llama-tiny-tied',
  'llama-tiny-untied',
  ...(await readdir(join(FIXTURES, 'families'))).sort().map((name) => `families/${name}`),
];
/** This variant has 16-bit weights. Gradients of all parameters exist only for models with float32 weights. */
const WITHOUT_FULL_GRADIENTS = 'llama-tiny-untied';

let cacheDir: string;
let engine: Engine;

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'families-test-'));
  engine = await createEngine('onnx-cpu', { threads: 1 });
});

afterAll(() => rm(cacheDir, { recursive: true, force: true }));

test.each(VARIANTS)(
  '%s: has the logits, loss, gradients and AdamW steps of transformers and PEFT',
  async (variant) => {
    const parity = await measureParity(join(FIXTURES, variant), engine, cacheDir);
    for (const quantity of QUANTITIES) {
      const { absolute, relative, compared } = parity[quantity];
      if (quantity !== 'full' || variant !== WITHOUT_FULL_GRADIENTS)
        expect(compared, quantity).toBeGreaterThan(0);
      expect(absolute, quantity).toBeLessThan(ABSOLUTE);
      expect(relative, quantity).toBeLessThan(RELATIVE);
    }
  },
);

test('every family has reference values with a tied and an untied head', async () => {
  const configs = await Promise.all(
    VARIANTS.map(async (name) => {
      const { config } = await openBase(join(FIXTURES, name));
      return `${config.family} ${config.tieWordEmbeddings}`;
    }),
  );
  for (const family of Object.keys(FAMILIES))
    for (const tied of [true, false]) expect(configs).toContain(`${family} ${tied}`);
});

describe.each(VARIANTS)('the architecture of %s', (variant) => {
  const opened = openBase(join(FIXTURES, variant));

  test('has consistent modules, parameters, blocks and head', async () => {
    const { architecture, config } = await opened;
    const shapes = new Map(architecture.parameters(config).map(({ name, shape }) => [name, shape]));
    const modules = architecture.linearModules(config);
    expect(modules.at(-1)!.name).toBe(architecture.head);
    expect(shapes.get(architecture.embedding)).toEqual([config.vocabularySize, config.hiddenSize]);
    for (const { name, in: width, out, bias, conv1d } of modules) {
      const stored = shapes.get(weightOf(name, architecture, config));
      expect(stored, name).toEqual(conv1d ? [width, out] : [out, width]);
      expect(shapes.get(`${name}.bias`), name).toEqual(bias ? [out] : undefined);
    }
    const blocks = architecture.blocks(config);
    expect(blocks).toHaveLength(config.layers);
    for (const { name } of modules.slice(0, -1))
      expect(blocks.filter((block) => name.startsWith(`${block}.`))).toHaveLength(1);
  });

  test('gives weights as [out, in], and uses every parameter', async () => {
    const { architecture, config } = await opened;
    const graph = new Graph();
    const source = frozenParameters(graph, architecture, config);
    for (const { name, in: width, out } of architecture.linearModules(config))
      expect(source.weight(name).shape).toEqual([out, width]);
    const trained = new Graph();
    const { trainable, ...whole } = trainableParameters(trained, architecture, config);
    const used = new Set<string>();
    const watched = {
      weight: whole.weight,
      tensor: (name: string) => {
        used.add(name);
        return whole.tensor(name);
      },
      rows: (name: string, ids: Tensor) => {
        used.add(name);
        return whole.rows(name, ids);
      },
      linear: (name: string, x: Tensor) => {
        used.add(weightOf(name, architecture, config)).add(`${name}.bias`);
        return whole.linear(name, x);
      },
    };
    const logits = architecture.forward(trained, config, sequenceInputs(trained, 1, 5), watched);
    expect(logits.shape).toEqual([5, config.vocabularySize]);
    for (const name of trainable.keys()) expect(used).toContain(name);
  });

  test('refuses rows with more tokens than the model has positions', async () => {
    const { architecture, config } = await opened;
    const graph = new Graph();
    const inputs = sequenceInputs(graph, 1, config.maxPositions + 1);
    const source = frozenParameters(graph, architecture, config);
    expect(() => architecture.forward(graph, config, inputs, source)).toThrow(
      withCode('MODEL_SEQUENCE_TOO_LONG'),
    );
  });

  test('refuses an unknown module or parameter', async () => {
    const { architecture, config } = await opened;
    const source = frozenParameters(new Graph(), architecture, config);
    const refused = expect.objectContaining({ code: 'MODEL_PARAMETER', values: { name: 'elsewhere' } });
    for (const ask of [source.weight, source.tensor]) expect(() => ask('elsewhere')).toThrow(refused);
  });
});

test('every family is registered under its own name', () => {
  for (const [name, architecture] of Object.entries(FAMILIES) as [string, Architecture][])
    expect(architecture.name).toBe(name);
});
