import { expect, it } from 'vitest';
import { createEngine } from '../../../../lora/engines/engine.ts';
import { Graph, type Tensor } from '../../../../lora/graph/graph.ts';
import { gatherRows } from '../../../../lora/graph/ops.ts';
import { noisyEmbeddings } from '../../../../lora/train/noise.ts';
import { trainingReference } from '../../../utils/models/training-reference.ts';

it.each(trainingReference().neftune)(
  "the noise is transformers': bound $bound at alpha $alpha",
  async (reference) => {
    const { alpha, batch, length, width, bound } = reference;
    const graph = new Graph();
    const table = graph.input('table', [10, width]);
    const tokens = graph.input('ids', [batch * length], 'int64');
    const unused = () => {
      throw new Error('not a linear module');
    };
    const rows = (_: string, of: Tensor) => gatherRows(table, of);
    const source = { tensor: () => table, rows, weight: unused, linear: unused };
    const noisy = noisyEmbeddings(graph, source, { alpha, architecture: { embedding: 'table' }, length });
    graph.output('embedded', noisy.rows('table', tokens));
    expect(noisy.rows('positions', tokens)).toBe(rows('positions', tokens));
    expect([...graph.inputs.keys()]).toContain('seed');
    const executable = await (await createEngine('onnx-cpu', { threads: 1 })).compile(graph, null);
    const values = Float32Array.from({ length: 10 * width }, (_, i) => Math.floor(i / width));
    const ids = BigInt64Array.from({ length: batch * length }, (_, i) => BigInt(i % 10));
    const run = async (seed: number) => {
      const { embedded } = await executable.run({ table: values, ids, seed: BigInt64Array.of(BigInt(seed)) });
      return embedded!.map((value, i) => value - (Math.floor(i / width) % 10));
    };
    const noise = await run(1);
    const mean = noise.reduce((sum, value) => sum + value, 0) / noise.length;
    const deviation = Math.sqrt(noise.reduce((sum, value) => sum + value ** 2, 0) / noise.length - mean ** 2);
    const largest = Math.max(...noise.map(Math.abs));
    // Adding the noise to a value of up to 9, and subtracting this value again, costs some bits.
    expect(largest).toBeLessThanOrEqual(bound + 1e-6);
    expect(largest).toBeGreaterThan(0.99 * bound);
    expect(Math.abs(deviation / reference.deviation - 1)).toBeLessThan(0.03);
    expect(Math.abs(mean)).toBeLessThan(0.05 * bound);
    expect(await run(1)).toEqual(noise);
    expect(await run(2)).not.toEqual(noise);
    await executable.dispose();
  },
);

it('the noise has the same size after a family scales its embeddings', async () => {
  const [width, length] = [16, 64];
  const graph = new Graph();
  const zeros = graph.input('table', [2, width]);
  const ids = graph.input('ids', [length], 'int64');
  const unused = () => {
    throw new Error('not a linear module');
  };
  const source = {
    tensor: () => zeros,
    rows: (_: string, of: Tensor) => gatherRows(zeros, of),
    weight: unused,
    linear: unused,
  };
  const options = { alpha: 5, architecture: { embedding: 'table' }, length, scale: 4 };
  graph.output('noise', noisyEmbeddings(graph, source, options).rows('table', ids));
  const executable = await (await createEngine('onnx-cpu', { threads: 1 })).compile(graph, null);
  const { noise } = await executable.run({
    table: new Float32Array(2 * width),
    ids: new BigInt64Array(length),
    seed: BigInt64Array.of(3n),
  });
  const bound = 5 / Math.sqrt(length * width);
  expect(4 * Math.max(...noise!.map(Math.abs))).toBeCloseTo(bound, 2);
  await executable.dispose();
});
