import { describe, expect, it } from 'vitest';
import { graphCost } from '../../../../lora/graph/cost.ts';
import { gradients } from '../../../../lora/graph/gradients.ts';
import { Graph } from '../../../../lora/graph/graph.ts';
import * as ops from '../../../../lora/graph/ops.ts';

describe('the cost of a graph', () => {
  it('counts the products of the forward and backward pass, but no gradients below the trained tensor', () => {
    const graph = new Graph();
    const x = graph.input('x', [8, 16]);
    const w = graph.weight('w', [32, 16]);
    const b = graph.input('b', [4, 32]);
    const y = ops.linear(ops.linear(x, w), b);
    const forward = 2 * 8 * 16 * 32 + 2 * 8 * 32 * 4;
    graph.output('y', y);
    expect(graphCost(graph).flops).toBe(forward);
    graph.output('slope', gradients(ops.reduceSum(y), [b])[0]!);
    expect(graphCost(graph)).toMatchObject({
      flops: forward + 2 * 8 * 4 * 32,
      weightBytes: 4 * 32 * 16,
      inputBytes: 4 * (8 * 16 + 4 * 32),
    });
  });

  it('holds a value until its last reader, and outputs to the end', () => {
    const bytes = (n: number) => 4 * n;
    const graph = new Graph();
    const x = graph.input('x', [10]);
    // Each value of the chain overwrites the previous one.
    let y = ops.exp(x);
    for (let i = 0; i < 5; i++) y = ops.sqrt(y);
    graph.output('y', y);
    expect(graphCost(graph).activationBytes).toBe(bytes(10));
    // The last operation reads y and a second value, so two values are in memory. The sum overwrites one of them.
    graph.output('z', ops.add(y, ops.exp(x)));
    expect(graphCost(graph).activationBytes).toBe(bytes(2 * 10));
  });

  it('counts a reshaped value as the value that it views, and an unread output as nothing', () => {
    const graph = new Graph();
    const x = graph.input('x', [4, 5]);
    const y = ops.reshape(ops.exp(x), [20]);
    graph.output('y', y);
    ops.log(x);
    expect(graphCost(graph)).toMatchObject({ activationBytes: 80, trafficBytes: 160, flops: 0 });
    // SiLU also outputs σ(x), for the backward pass, which this graph lacks.
    const silu = new Graph();
    silu.output('y', ops.silu(silu.input('x', [20])));
    expect(graphCost(silu).activationBytes).toBe(80);
  });
});
