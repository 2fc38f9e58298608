import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { SwarmError } from '../../../../common/errors.ts';
import { createEngine, type Engine, type Feeds, type WeightFile } from '../../../../lora/engines/engine.ts';
import { runOnce } from '../../../../lora/engines/run-once.ts';
import { createTfjsEngine } from '../../../../lora/engines/tfjs/engine.ts';
import type { TensorFlow } from '../../../../lora/engines/tfjs/lower.ts';
import { Graph } from '../../../../lora/graph/graph.ts';
import * as ops from '../../../../lora/graph/ops.ts';
import { TrainerProcess } from '../../../../lora/train/process/supervisor.ts';
import { tf, tfjsOnCpu } from '../../../utils/models/tfjs.ts';
import { tinyDeps, tinySettings } from '../../../utils/models/tiny-trainer.ts';

let folder: string;
let engine: Engine;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lora-swarm-tfjs-'));
  engine = await tfjsOnCpu();
});

afterAll(() => rm(folder, { recursive: true }));

/** Every test must leave no tensor on the backend. */
let tensorsBefore: number;
beforeEach(() => {
  tensorsBefore = tf.memory().numTensors;
});
afterEach(() => {
  expect(tf.memory().numTensors).toBe(tensorsBefore);
});

const long = (...values: number[]) => BigInt64Array.from(values, BigInt);

/** y = x·wᵀ, where w is a weight of the base. */
function linearGraph(): Graph {
  const graph = new Graph();
  graph.output('y', ops.linear(graph.input('x', [1, 2]), graph.weight('w', [2, 2])));
  return graph;
}

async function weightFile(name: string, shape: readonly number[] = [2, 2]): Promise<WeightFile> {
  const path = join(folder, name);
  const data = new Float32Array(1024 + 4);
  data.set([1, 2, 3, 4], 1024);
  await writeFile(path, data);
  const length = 4 * shape.reduce((product, size) => product * size, 1);
  return { path, entries: new Map([['w', { offset: 4096, length, shape }]]) };
}

describe('weights', () => {
  test('are on the backend once, until the last executable releases them', async () => {
    const weights = await weightFile('shared.bin');
    const [first, second] = await Promise.all([
      engine.compile(linearGraph(), weights),
      engine.compile(linearGraph(), weights),
    ]);
    expect(tf.memory().numTensors).toBe(tensorsBefore + 1);
    const x = Float32Array.of(10, 1);
    expect((await first.run({ x })).y).toEqual(Float32Array.of(12, 34));
    await first.dispose();
    expect((await second.run({ x })).y).toEqual(Float32Array.of(12, 34));
    await second.dispose();
    expect(tf.memory().numTensors).toBe(tensorsBefore);
    const third = await engine.compile(linearGraph(), weights);
    expect((await third.run({ x })).y).toEqual(Float32Array.of(12, 34));
    await third.dispose();
  });

  test('are refused if missing, of another shape or unreadable, and the others are released', async () => {
    const graph = new Graph();
    const here = graph.weight('w', [2, 2]);
    graph.output('y', ops.linear(ops.linear(graph.input('x', [1, 2]), here), graph.weight('absent', [2, 2])));
    const weights = await weightFile('some.bin');
    await expect(engine.compile(graph, weights)).rejects.toMatchObject({ code: 'ENGINE_WEIGHTS' });
    await expect(engine.compile(linearGraph(), null)).rejects.toMatchObject({ code: 'ENGINE_WEIGHTS' });
    const wrong = await weightFile('wrong.bin', [4]);
    await expect(engine.compile(linearGraph(), wrong)).rejects.toMatchObject({ code: 'ENGINE_WEIGHTS' });
    const missing = { ...weights, path: join(folder, 'absent.bin') };
    await expect(engine.compile(linearGraph(), missing)).rejects.toMatchObject({ code: 'ENGINE_COMPILE' });
    const w = weights.entries.get('w')!;
    const blocks = { codes: w, scales: w };
    const fewerBits = { shape: [2, 2], bits: 8, side: 64, plain: blocks, transposed: blocks } as const;
    const rounded: WeightFile = { ...weights, entries: new Map(), quantised: new Map([['w', fewerBits]]) };
    await expect(engine.compile(linearGraph(), rounded)).rejects.toMatchObject({ code: 'ENGINE_WEIGHTS' });
    const short = await weightFile('short.bin');
    await writeFile(short.path, new Uint8Array(100));
    const refused = { code: 'ENGINE_COMPILE' };
    const both = [1, 2].map(() => engine.compile(linearGraph(), short));
    await Promise.all(both.map((attempt) => expect(attempt).rejects.toMatchObject(refused)));
  });
});

describe('nothing stays on the backend', () => {
  test('after a weight does not fit', async () => {
    const graph = new Graph();
    const weights = ['v', 'w'].map((name) => graph.weight(name, [2, 2]));
    graph.output('y', ops.add(weights[0]!, weights[1]!));
    const { path, entries } = await weightFile('full.bin');
    const both = new Map([...entries, ['v', { offset: 0, length: 16, shape: [2, 2] }] as const]);
    let room = 1;
    const reshape: TensorFlow['reshape'] = (x, shape) => {
      if (room-- === 0) throw new Error('out of memory');
      return tf.reshape(x, shape);
    };
    const full = await createTfjsEngine({ ...tf, reshape });
    await expect(full.compile(graph, { path, entries: both })).rejects.toMatchObject({
      code: 'ENGINE_COMPILE',
    });
  });

  test('after a failed runOnce', async () => {
    let fails = false;
    const add: TensorFlow['add'] = (a, b) => {
      if (fails) throw new Error('no kernel');
      return tf.add(a, b);
    };
    const failing = await createTfjsEngine({ ...tf, add });
    fails = true;
    const graph = new Graph();
    const one = graph.constant([1], Float32Array.of(1));
    graph.output('y', ops.add(graph.input('x', [1]), one));
    const trial = () => runOnce(failing, graph, { x: Float32Array.of(1) });
    await expect(trial()).rejects.toMatchObject({ code: 'ENGINE_RUN' });
    fails = false;
    expect(await trial()).toEqual({ y: Float32Array.of(2) });
  });
});

describe('runs', () => {
  test("never change the caller's arrays, even if an output is an input or a constant", async () => {
    const graph = new Graph();
    const x = graph.input('x', [2]);
    const outputs = {
      x,
      again: x,
      view: ops.reshape(x, [2, 1]),
      three: graph.constant([1], Float32Array.of(3)),
      twice: ops.add(x, x),
    };
    for (const [name, tensor] of Object.entries(outputs)) graph.output(name, tensor);
    const executable = await engine.compile(graph, null);
    const fed = Float32Array.of(1, 2);
    const first = await executable.run({ x: fed });
    for (const values of Object.values(first)) values.fill(7);
    expect(fed).toEqual(Float32Array.of(1, 2));
    expect(await executable.run({ x: fed })).toEqual({
      x: Float32Array.of(1, 2),
      again: Float32Array.of(1, 2),
      view: Float32Array.of(1, 2),
      three: Float32Array.of(3),
      twice: Float32Array.of(2, 4),
    });
    await executable.dispose();
  });

  test('refuse feeds that do not fit and ids out of range, and work afterwards', async () => {
    const graph = new Graph();
    const ids = graph.input('ids', [2], 'int64');
    graph.output('y', ops.gatherRows(graph.input('table', [3, 1]), ops.slice(ids, 0, 1, 2)));
    const executable = await engine.compile(graph, null);
    const table = Float32Array.of(1, 2, 3);
    const refused: [Feeds, string][] = [
      [{ table }, 'ENGINE_FEED'],
      [{ table, ids: long(0, 1), more: table }, 'ENGINE_FEED'],
      [{ table, ids: long(0) }, 'ENGINE_FEED'],
      [{ table, ids: Float32Array.of(0, 1) }, 'ENGINE_FEED'],
      [{ table, ids: long(0, 2 ** 40) }, 'ENGINE_FEED'],
      [{ table, ids: long(0, 3) }, 'ENGINE_RUN'],
      [{ table, ids: long(0, -1) }, 'ENGINE_RUN'],
    ];
    for (const [feeds, code] of refused) await expect(executable.run(feeds)).rejects.toMatchObject({ code });
    expect(await executable.run({ table, ids: long(0, 2) })).toEqual({ y: Float32Array.of(3) });
    await executable.dispose();
  });

  test('treat labels below zero as missing, and refuse labels beyond the vocabulary', async () => {
    const graph = new Graph();
    const losses = ops.crossEntropy(graph.input('logits', [1, 2]), graph.input('labels', [1], 'int64'));
    graph.output('losses', losses);
    const executable = await engine.compile(graph, null);
    const logits = new Float32Array(2);
    expect((await executable.run({ logits, labels: long(-100) })).losses).toEqual(Float32Array.of(0));
    expect((await executable.run({ logits, labels: long(1) })).losses![0]).toBeCloseTo(Math.log(2), 6);
    await expect(executable.run({ logits, labels: long(2) })).rejects.toMatchObject({ code: 'ENGINE_RUN' });
    await executable.dispose();
  });

  test('run the graph as it was when it was compiled, and fail after dispose, which may be called twice', async () => {
    const graph = new Graph();
    graph.output('y', ops.negate(graph.input('x', [1])));
    const executable = await engine.compile(graph, null);
    graph.output('later', ops.exp(graph.input('z', [1])));
    const x = Float32Array.of(2);
    expect(await executable.run({ x })).toEqual({ y: Float32Array.of(-2) });
    await executable.dispose();
    await executable.dispose();
    await expect(executable.run({ x })).rejects.toMatchObject({ code: 'ENGINE_DISPOSED' });
  });

  test('stop at the limit of tensors that a process can create', async () => {
    const graph = new Graph();
    graph.output('y', ops.negate(graph.input('x', [1])));
    const created = tf.tidy(() => tf.scalar(0).id);
    const limited = await createTfjsEngine(tf, { tensorLimit: created + 20 });
    const executable = await limited.compile(graph, null);
    const x = Float32Array.of(2);
    let runs = 0;
    const untilExhausted = async () => {
      for (; runs < 20; runs++) expect(await executable.run({ x })).toEqual({ y: Float32Array.of(-2) });
    };
    await expect(untilExhausted()).rejects.toMatchObject({
      code: 'ENGINE_EXHAUSTED',
      values: { engine: 'tfjs', limit: created + 20 },
    });
    expect(runs).toBeGreaterThan(0);
    await executable.dispose();
  });

  test('hold no more tensors at once than are still needed', async () => {
    const graph = new Graph();
    let x = graph.input('x', [64, 64]);
    for (let i = 0; i < 20; i++) x = ops.silu(x);
    graph.output('y', ops.reduceSum(x));
    const before = tf.memory().numBytes;
    let peak = 0;
    // Measures the memory after each operation, which ends with a call of `tidy`.
    const watched = await createTfjsEngine({
      ...tf,
      tidy: ((run: () => ReturnType<TensorFlow['tidy']>) => {
        const result = tf.tidy(run);
        peak = Math.max(peak, tf.memory().numBytes - before);
        return result;
      }) as TensorFlow['tidy'],
    });
    const executable = await watched.compile(graph, null);
    await executable.run({ x: new Float32Array(64 * 64) });
    // At most the operand and the two results of one silu are in memory.
    expect(peak).toBe(3 * 4 * 64 * 64);
    await executable.dispose();
  });
});

describe('engine', () => {
  test('created by name computes the same, or is unavailable', async () => {
    const graph = linearGraph();
    const weights = await weightFile('engine.bin');
    let installed: Engine;
    try {
      installed = await createEngine('tfjs', { threads: 1 });
    } catch (error) {
      expect((error as { code?: string }).code).toBe('ENGINE_UNAVAILABLE');
      return;
    }
    const executable = await installed.compile(graph, weights);
    expect((await executable.run({ x: Float32Array.of(10, 1) })).y).toEqual(Float32Array.of(12, 34));
    await executable.dispose();
  });

  test('with 0 threads is refused', async () => {
    await expect(createEngine('tfjs', { threads: 0 })).rejects.toMatchObject({ code: 'ENGINE_THREADS' });
  });

  test('is unavailable on a backend that fails', async () => {
    const broken = { ...tf, add: () => expect.fail('no kernel') } as unknown as TensorFlow;
    await expect(createTfjsEngine(broken)).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' });
  });

  test('starts in the trainer process, or fails there with its own error code', async () => {
    const { modelDir, cacheDir } = await tinyDeps(folder);
    const options = { modelDir, cacheDir, ...tinySettings({}, { devices: [{ engine: 'tfjs' }] }) };
    const code = await TrainerProcess.start(options).then(
      (trainer) => trainer.stop(),
      (error: SwarmError) => error.code,
    );
    expect(['ENGINE_UNAVAILABLE', undefined]).toContain(code);
  });
});
