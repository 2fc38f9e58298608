import { expect, it } from 'vitest';
import { createEngine } from '../../../lora/engines/engine.ts';
import { Graph } from '../../../lora/graph/graph.ts';
import { gatherRows } from '../../../lora/graph/ops.ts';
import { sequenceInputs } from '../../../lora/models/sequences.ts';
import { noisyEmbeddings } from '../../../lora/train/noise.ts';
import { trainingReference } from '../../utils/training-reference.ts';

it.each(trainingReference().neftune)(
  "the noise is transformers': bound $bound at alpha $alpha",
  async (reference) => {
    const { alpha, batch, length, width, bound } = reference;
    const graph = new Graph();
    const table = graph.input('table', [10, width]);
    const inputs = sequenceInputs(graph, batch, length);
    const unused = () => {
      throw new Error('not a linear module');
    };
    const source = { tensor: () => table, weight: unused, linear: unused };
    const noisy = noisyEmbeddings(graph, inputs, source, { alpha, architecture: { embedding: 'table' } });
    // As every family looks its embeddings up.
    graph.output('embedded', gatherRows(noisy.source.tensor('table'), noisy.inputs.ids));
    expect([...graph.inputs.keys()]).toContain('seed');
    const executable = await (await createEngine('onnx-cpu', { threads: 1 })).compile(graph, null);
    const values = Float32Array.from({ length: 10 * width }, (_, i) => Math.floor(i / width));
    const ids = BigInt64Array.from({ length: batch * length }, (_, i) => BigInt(i % 10));
    const run = async (seed: number) => {
      const feeds = {
        table: values,
        ids,
        positions: new BigInt64Array(batch * length),
        seed: BigInt64Array.of(BigInt(seed)),
      };
      const needed = Object.fromEntries(Object.entries(feeds).filter(([name]) => graph.inputs.has(name)));
      const { embedded } = await executable.run(needed);
      return embedded!.map((value, i) => value - (Math.floor(i / width) % 10));
    };
    const noise = await run(1);
    const mean = noise.reduce((sum, value) => sum + value, 0) / noise.length;
    const deviation = Math.sqrt(noise.reduce((sum, value) => sum + value ** 2, 0) / noise.length - mean ** 2);
    const largest = Math.max(...noise.map(Math.abs));
    // Adding to 9 and subtracting again costs some bits.
    expect(largest).toBeLessThanOrEqual(bound + 1e-6);
    expect(largest).toBeGreaterThan(0.99 * bound);
    expect(Math.abs(deviation / reference.deviation - 1)).toBeLessThan(0.03);
    expect(Math.abs(mean)).toBeLessThan(0.05 * bound);
    expect(await run(1)).toEqual(noise);
    expect(await run(2)).not.toEqual(noise);
    await executable.dispose();
  },
);
