import { mkdir, mkdtemp, open, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  createEngine,
  type Engine,
  type EngineName,
  type Feeds,
  type WeightFile,
} from '../../../../lora/engines/engine.ts';
import { buildModel } from '../../../../lora/engines/onnx/model.ts';
import { gradients } from '../../../../lora/graph/gradients.ts';
import { Graph } from '../../../../lora/graph/graph.ts';
import * as ops from '../../../../lora/graph/ops.ts';
import { evaluate, numbers } from '../../../utils/models/graphs.ts';

let folder: string;
let engine: Engine;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lora-swarm-engine-'));
  engine = await createEngine('onnx-cpu', { threads: 1 });
});

afterAll(() => rm(folder, { recursive: true }));

function fileOf(path: string, entries: Record<string, { offset: number; shape: number[] }>): WeightFile {
  const sized = Object.entries(entries).map(([name, { offset, shape }]) => {
    const length = 4 * shape.reduce((product, size) => product * size, 1);
    return [name, { offset, shape, length }] as const;
  });
  return { path, entries: new Map(sized) };
}

/** y = x·wᵀ, where w is a weight of the base. */
function linearGraph(): Graph {
  const graph = new Graph();
  graph.output('y', ops.linear(graph.input('x', [1, 2]), graph.weight('w', [2, 2])));
  return graph;
}

describe('weights', () => {
  test('are read from their location in the file', async () => {
    const path = join(folder, 'weights.bin');
    const data = new Float32Array(1024 + 4);
    data.set([1, 2, 3, 4], 1024);
    await writeFile(path, data);
    const executable = await engine.compile(
      linearGraph(),
      fileOf(path, { w: { offset: 4096, shape: [2, 2] } }),
    );
    expect((await executable.run({ x: Float32Array.of(10, 1) })).y).toEqual(Float32Array.of(12, 34));
    await executable.dispose();
  });

  test('may lie behind a symbolic link', async () => {
    const path = join(folder, 'real', 'weights.bin');
    await mkdir(join(folder, 'real'));
    await writeFile(path, Float32Array.of(1, 2, 3, 4));
    await symlink(join(folder, 'real'), join(folder, 'linked'));
    const weights = fileOf(join(folder, 'linked', 'weights.bin'), { w: { offset: 0, shape: [2, 2] } });
    const executable = await engine.compile(linearGraph(), weights);
    expect((await executable.run({ x: Float32Array.of(10, 1) })).y).toEqual(Float32Array.of(12, 34));
    await executable.dispose();
  });

  test('may lie beyond 2 GiB', async () => {
    const path = join(folder, 'large.bin');
    const offset = 3 * 2 ** 30;
    // The file is sparse and takes no space on disk.
    const file = await open(path, 'w');
    await file.write(new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer), 0, 16, offset);
    await file.close();
    const executable = await engine.compile(linearGraph(), fileOf(path, { w: { offset, shape: [2, 2] } }));
    expect((await executable.run({ x: Float32Array.of(10, 1) })).y).toEqual(Float32Array.of(12, 34));
    await executable.dispose();
  });

  test('are refused if they are missing, have another shape or have no file', async () => {
    const path = join(folder, 'weights.bin');
    await expect(engine.compile(linearGraph(), null)).rejects.toMatchObject({ code: 'ENGINE_WEIGHTS' });
    const wrong: Parameters<typeof fileOf>[1][] = [
      { other: { offset: 0, shape: [2, 2] } },
      { w: { offset: 0, shape: [4] } },
      { w: { offset: 0, shape: [2, 3] } },
    ];
    for (const entries of wrong) {
      const compile = () => engine.compile(linearGraph(), fileOf(path, entries));
      await expect(compile()).rejects.toMatchObject({ code: 'ENGINE_WEIGHTS' });
    }
    const missing = fileOf(join(folder, 'absent.bin'), { w: { offset: 0, shape: [2, 2] } });
    await expect(engine.compile(linearGraph(), missing)).rejects.toMatchObject({ code: 'ENGINE_COMPILE' });
    const short = fileOf(join(folder, 'short.bin'), { w: { offset: 4096, shape: [2, 2] } });
    await writeFile(short.path, new Uint8Array(100));
    await expect(engine.compile(linearGraph(), short)).rejects.toMatchObject({ code: 'ENGINE_COMPILE' });
  });

  test('may be missing if no output depends on them', async () => {
    const graph = new Graph();
    const x = graph.input('x', [1, 2]);
    ops.linear(x, graph.weight('unused', [2, 2]));
    graph.output('y', ops.negate(x));
    const executable = await engine.compile(graph, null);
    expect((await executable.run({ x: Float32Array.of(1, 2) })).y).toEqual(Float32Array.of(-1, -2));
    await executable.dispose();
  });

  test('are not copied into the model bytes', () => {
    const graph = new Graph();
    graph.output('y', ops.linear(graph.input('x', [1, 4096]), graph.weight('w', [4096, 4096])));
    const weights = fileOf('/models/base/weights.bin', { w: { offset: 0, shape: [4096, 4096] } });
    expect(buildModel(graph, weights, 'cpu').length).toBeLessThan(1000);
  });
});

describe('runs', () => {
  test('return inputs, constants, and the same tensor twice', async () => {
    const outputs = await evaluate(
      (graph) => {
        const x = graph.input('x', [2]);
        return { x, again: x, three: graph.constant([1], Float32Array.of(3)), twice: ops.add(x, x) };
      },
      { x: Float32Array.of(1, 2) },
    );
    expect(outputs).toEqual({
      x: Float32Array.of(1, 2),
      again: Float32Array.of(1, 2),
      three: Float32Array.of(3),
      twice: Float32Array.of(2, 4),
    });
  });

  test('refuse feeds that do not fit', async () => {
    const graph = new Graph();
    graph.output('y', ops.gatherRows(graph.input('x', [2, 2]), graph.input('ids', [1], 'int64')));
    const executable = await engine.compile(graph, null);
    const x = new Float32Array(4);
    const ids = new BigInt64Array(1);
    const wrong: Feeds[] = [
      { x },
      { x, ids, extra: x },
      { x: new Float32Array(3), ids },
      { x: new BigInt64Array(4), ids },
      { x, ids: new Float32Array(1) },
      { x, ids: new Int32Array(1) as unknown as BigInt64Array },
    ];
    for (const feeds of wrong) {
      await expect(executable.run(feeds)).rejects.toMatchObject({ code: 'ENGINE_FEED' });
    }
    await expect(executable.run({ x, ids: BigInt64Array.of(2n) })).rejects.toMatchObject({
      code: 'ENGINE_RUN',
    });
    // A failed run leaves the executable usable.
    expect((await executable.run({ x, ids })).y).toHaveLength(2);
    await executable.dispose();
  });

  test('give the same bytes every time, on two threads', async () => {
    const graph = new Graph();
    const x = graph.input('x', [64, 96]);
    const w = graph.input('w', [512, 96]);
    const labels = graph.constant(
      [64],
      BigInt64Array.from({ length: 64 }, (_, i) => BigInt((i * 37) % 512)),
    );
    const loss = ops.reduceSum(ops.crossEntropy(ops.linear(ops.silu(x), w), labels));
    const [dx, dw] = gradients(loss, [x, w]);
    graph.output('loss', loss);
    graph.output('dx', dx!);
    graph.output('dw', dw!);
    const feeds = { x: numbers(64 * 96, 1), w: numbers(512 * 96, 2) };
    const two = await createEngine('onnx-cpu', { threads: 2 });
    const first = await two.compile(graph, null);
    const second = await two.compile(graph, null);
    const expected = await first.run(feeds);
    for (const executable of [first, second, first]) expect(await executable.run(feeds)).toEqual(expected);
    await first.dispose();
    await second.dispose();
  });

  // onnxruntime flushes denormals on x86 only.
  test.skipIf(process.arch !== 'x64')('flush denormals to zero on every thread', async () => {
    const graph = new Graph();
    const x = graph.input('x', [64, 1024]);
    graph.output('y', ops.multiply(x, x));
    const executable = await (await createEngine('onnx-cpu', { threads: 2 })).compile(graph, null);
    // The products, 1e-40, are denormal. Denormals are slow to compute with, and half of all attention scores are denormal
    // after softmax.
    const { y } = await executable.run({ x: new Float32Array(64 * 1024).fill(1e-20) });
    await executable.dispose();
    // Compares bits, because this thread too reads denormals as zeros.
    expect(new Uint32Array(y!.buffer, y!.byteOffset, y!.length).every((bits) => bits === 0)).toBe(true);
  });

  test('run the graph as it was when it was compiled', async () => {
    const graph = new Graph();
    const x = graph.input('x', [1]);
    graph.output('y', ops.negate(x));
    const executable = await engine.compile(graph, null);
    graph.output('later', ops.exp(graph.input('z', [1])));
    expect(await executable.run({ x: Float32Array.of(2) })).toEqual({ y: Float32Array.of(-2) });
    await executable.dispose();
  });

  test('fail after dispose, which may be called twice', async () => {
    const graph = new Graph();
    graph.output('y', ops.negate(graph.input('x', [1])));
    const executable = await engine.compile(graph, null);
    await executable.dispose();
    await executable.dispose();
    await expect(executable.run({ x: new Float32Array(1) })).rejects.toMatchObject({
      code: 'ENGINE_DISPOSED',
    });
  });
});

describe('engines', () => {
  test('are refused with an unknown name or an invalid number of threads', async () => {
    await expect(createEngine('abacus' as EngineName, { threads: 1 })).rejects.toMatchObject({
      code: 'ENGINE_UNKNOWN',
    });
    for (const threads of [0, -1, 1.5, Number.NaN]) {
      await expect(createEngine('onnx-cpu', { threads })).rejects.toMatchObject({ code: 'ENGINE_THREADS' });
    }
  });
});
