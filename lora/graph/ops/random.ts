import { type Graph, requireDType, type Tensor } from '../graph.ts';
import { elementCount, type Shape, shapeError } from '../shapes.ts';
import { multiply } from './elementwise.ts';

/** Odd constants of the golden ratio and of SplitMix and MurmurHash; any odd ones with mixed bits would do. */
export const UNIFORM_STEPS = {
  seed: 0x9e3779b1,
  row: 0x85ebca6b,
  column: 0xc2b2ae35,
  /** From the key of the first factor to that of the second. */
  factor: 0x27d4eb2f,
} as const;

/** Name of the input that randomness in a graph depends on. */
export const SEED_INPUT = 'seed';

/** The int64 [1] input `seed` of a graph: fed at every run, a whole number from 0 to 2^31 − 1. */
export function randomSeed(graph: Graph): Tensor {
  return graph.input(SEED_INPUT, [1], 'int64');
}

/**
 * Random numbers in [0, 1), multiples of 2^−24: a pure function of seed, stream and position, the same on every
 * machine and executor (32-bit integer arithmetic, rounded nowhere). No gradient.
 *
 * With rows and columns of the tensor taken as a matrix [R, C] (the last axis is C), a value is
 * f((aᵢ + bⱼ)·(a′ᵢ + b′ⱼ)) over the upper 24 of 32 bits: a, b of all rows and columns are hashes of seed, stream and
 * number, the second factor is odd, and f(x) = x·(2x + 1), RC6's permutation (Rivest et al. 1998), carries every lower
 * bit into the upper ones. Only additions and products cost a pass over the tensor.
 *
 * @param seed int64 [1], see randomSeed
 * @param stream whole number from 0 to 2^31 − 1 that tells apart the uses within a graph
 * @throws SwarmError GRAPH_SHAPE, GRAPH_DTYPE
 */
export function uniform(shape: Shape, seed: Tensor, stream: number): Tensor {
  requireDType('uniform', seed, 'int64');
  if (elementCount(seed.shape) !== 1) throw shapeError('uniform', 'the seed is one number [1]', seed.shape);
  if (!Number.isInteger(stream) || stream < 0 || stream >= 2 ** 31)
    throw shapeError('uniform', `a stream is a whole number below 2^31, not ${stream}`, shape);
  // A rule that contributes nothing: the seed is a whole number.
  return seed.graph.apply('uniform', [seed], { shape: [...shape], stream }, [{ shape }], () => {})[0]!;
}

/**
 * x with a share `rate` of its elements set to zero and the others divided by 1 − rate, so that the expectation stays.
 * The gradient passes through the same elements, with the same factor.
 *
 * @param rate at least 0, below 1
 * @throws SwarmError GRAPH_SHAPE, GRAPH_DTYPE
 */
export function dropout(x: Tensor, rate: number, seed: Tensor, stream: number): Tensor {
  requireDType('dropout', x, 'float32');
  if (!(rate >= 0 && rate < 1))
    throw shapeError('dropout', `a rate of ${rate} is not from 0 to below 1`, x.shape);
  if (rate === 0) return x;
  const random = uniform(x.shape, seed, stream);
  // A step function: its derivative is zero wherever it has one.
  const mask = x.graph.apply('keepMask', [random], { rate }, [{ shape: x.shape }], () => {})[0]!;
  return multiply(x, mask);
}
