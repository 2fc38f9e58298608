import { createEngine, type Feeds, type WeightFile } from '../../../lora/engines/engine.ts';
import { gradients } from '../../../lora/graph/gradients.ts';
import { Graph, type Tensor } from '../../../lora/graph/graph.ts';
import { multiply, reduceSum } from '../../../lora/graph/ops.ts';
import { elementCount, type Shape } from '../../../lora/graph/shapes.ts';

/** Returns random numbers in [−1, 1) from a 32-bit seed (xorshift32), the same on every machine. */
export function numbers(count: number, seed: number): Float32Array {
  let state = (seed ^ 0x9e3779b9) | 1;
  return Float32Array.from({ length: count }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 31 - 1;
  });
}

/** Builds a graph, runs it once on the CPU and returns its outputs. */
export async function evaluate(
  build: (graph: Graph) => Record<string, Tensor>,
  feeds: Feeds = {},
  weights: WeightFile | null = null,
): Promise<Record<string, Float32Array>> {
  const graph = new Graph();
  for (const [name, tensor] of Object.entries(build(graph))) graph.output(name, tensor);
  const engine = await createEngine('onnx-cpu', { threads: 1 });
  const executable = await engine.compile(graph, weights);
  try {
    return await executable.run(feeds);
  } finally {
    await executable.dispose();
  }
}

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, index) => sum + value * b[index]!, 0);
}

/** Step of the central differences, which balances float32 rounding against curvature. */
const STEP = 2 ** -7;

export interface Differentiable {
  /** Inputs to differentiate by, with shape and values. */
  readonly inputs: Readonly<Record<string, { shape: Shape; data: Float32Array }>>;
  /** Builds a tensor from the inputs. The loss is its inner product with fixed random numbers. */
  readonly build: (graph: Graph, inputs: Record<string, Tensor>) => Tensor;
}

/**
 * Returns the largest difference between the graph's gradients and central differences along random directions of each
 * input, relative to the size of the derivative (at least 1). The loss is summed in double precision outside
 * the graph, so that the differences lose as little as float32 allows.
 */
export async function gradientError({ inputs, build }: Differentiable, seed: number): Promise<number> {
  const graph = new Graph();
  const tensors: Record<string, Tensor> = {};
  const feeds: Record<string, Float32Array> = {};
  for (const [name, { shape, data }] of Object.entries(inputs)) {
    tensors[name] = graph.input(name, shape);
    feeds[name] = data;
  }
  const y = build(graph, tensors);
  const weights = numbers(elementCount(y.shape), seed);
  const loss = reduceSum(multiply(y, graph.constant(y.shape, weights)));
  const names = Object.keys(inputs);
  graph.output('y', y);
  for (const [index, gradient] of gradients(loss, Object.values(tensors)).entries()) {
    graph.output(`d ${names[index]}`, gradient);
  }
  const engine = await createEngine('onnx-cpu', { threads: 1 });
  const executable = await engine.compile(graph, null);
  const outputs = await executable.run(feeds);
  let worst = 0;
  for (const [index, name] of names.entries()) {
    const data = feeds[name]!;
    const direction = numbers(data.length, seed + 17 * (index + 1));
    const lossAt = async (step: number) => {
      const moved = data.map((value, i) => value + step * direction[i]!);
      return dot((await executable.run({ ...feeds, [name]: moved })).y!, weights);
    };
    const difference = ((await lossAt(STEP)) - (await lossAt(-STEP))) / (2 * STEP);
    const derivative = dot(outputs[`d ${name}`]!, direction);
    worst = Math.max(worst, Math.abs(difference - derivative) / Math.max(1, Math.abs(derivative)));
  }
  await executable.dispose();
  return worst;
}

/** Returns a graph of the example's result and its gradients by all inputs, with its feeds. */
export function slopesOf(
  { inputs, build }: Differentiable,
  seed: number,
): { graph: Graph; feeds: Record<string, Float32Array> } {
  const graph = new Graph();
  const tensors: Record<string, Tensor> = {};
  for (const [name, { shape }] of Object.entries(inputs)) tensors[name] = graph.input(name, shape);
  const y = build(graph, tensors);
  const weights = graph.constant(y.shape, numbers(elementCount(y.shape), seed));
  graph.output('y', y);
  const slopes = gradients(reduceSum(multiply(y, weights)), Object.values(tensors));
  for (const [i, slope] of slopes.entries()) graph.output(`slope ${i}`, slope);
  return { graph, feeds: Object.fromEntries(Object.entries(inputs).map(([name, { data }]) => [name, data])) };
}
