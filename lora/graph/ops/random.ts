import { type Graph, requireDType, type Tensor } from '../graph.ts';
import { elementCount, type Shape, shapeError } from '../shapes.ts';
import { multiply } from './elementwise.ts';

/**
 * Odd numbers by which the seed and the numbers of rows and columns are multiplied before they are hashed. They come
 * from the golden ratio, SplitMix and MurmurHash. Any odd number with mixed bits would do.
 */
export const UNIFORM_STEPS = {
  seed: 0x9e3779b1,
  row: 0x85ebca6b,
  column: 0xc2b2ae35,
  /**
   * A number for the second factor of `uniform`. It is added to the multiples before they are hashed, because
   * otherwise both factors would have the same hashes.
   */
  factor: 0x27d4eb2f,
} as const;

/** Name of the input that seeds the random numbers of a graph. */
export const SEED_INPUT = 'seed';

/** Returns the input `seed`, int64 [1], of a graph. Each run feeds a whole number from 0 to 2^31 − 1. */
export function randomSeed(graph: Graph): Tensor {
  return graph.input(SEED_INPUT, [1], 'int64');
}

/**
 * Uniform random numbers in [0, 1), multiples of 2^−24. They are a pure function of seed, stream and position, and the
 * same on every machine and engine, because all arithmetic is on 32-bit integers. No gradient.
 *
 * Treat the tensor as a matrix [R, C], where C is the last axis. A value is the upper 24 of the 32 bits of f((aᵢ +
 * bⱼ)·(a′ᵢ + b′ⱼ)). Here a and a′ are hashes of seed, stream and row; b and b′ are hashes of seed, stream and column.
 * The second factor is odd. f(x) = x·(2x + 1) is the permutation of the cipher RC6 (Rivest et al. 1998), in which the
 * upper bits depend on all lower bits. The hashes are computed once for each row and column, so a value of the tensor
 * costs only a few additions and multiplications.
 *
 * @param seed int64 [1], see randomSeed
 * @param stream whole number from 0 to 2^31 − 1, different for each use in a graph
 * @throws SwarmError GRAPH_SHAPE, GRAPH_DTYPE
 */
export function uniform(shape: Shape, seed: Tensor, stream: number): Tensor {
  requireDType('uniform', seed, 'int64');
  if (elementCount(seed.shape) !== 1)
    throw shapeError('uniform', 'the seed must be one number [1]', seed.shape);
  if (!Number.isInteger(stream) || stream < 0 || stream >= 2 ** 31)
    throw shapeError('uniform', `stream ${stream} is not a whole number from 0 to 2^31 − 1`, shape);
  // The gradient rule is empty, because the seed is an integer and has no gradient.
  return seed.graph.apply('uniform', [seed], { shape: [...shape], stream }, [{ shape }], () => {})[0]!;
}

/**
 * Dropout: sets each element of x to zero with probability `rate` and divides all other elements by 1 − rate,
 * which keeps the expectation. The gradient passes through these other elements, and is divided by 1 − rate too.
 *
 * @param rate at least 0, below 1
 * @throws SwarmError GRAPH_SHAPE, GRAPH_DTYPE
 */
export function dropout(x: Tensor, rate: number, seed: Tensor, stream: number): Tensor {
  requireDType('dropout', x, 'float32');
  if (!(rate >= 0 && rate < 1))
    throw shapeError('dropout', `the rate is ${rate}; it must be at least 0 and below 1`, x.shape);
  if (rate === 0) return x;
  const random = uniform(x.shape, seed, stream);
  // The gradient rule is empty, because the mask is a step function of the random numbers, with gradient 0.
  const mask = x.graph.apply('keepMask', [random], { rate }, [{ shape: x.shape }], () => {})[0]!;
  return multiply(x, mask);
}
