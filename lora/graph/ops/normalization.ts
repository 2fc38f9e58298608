import { requireDType, type Tensor } from '../graph.ts';
import { elementCount, shapeError } from '../shapes.ts';
import { add, multiply, scale, subtract } from './elementwise.ts';
import { type Axes, reduceSum, sumTo } from './reduce.ts';

/** Averages over the given axes; null averages over all axes. @throws SwarmError GRAPH_SHAPE */
export function reduceMean(x: Tensor, axis: Axes = null, keepDims = false): Tensor {
  const sum = reduceSum(x, axis, keepDims);
  return scale(sum, elementCount(sum.shape) / elementCount(x.shape));
}

/** Softmax over the last axis; dx = p ⊙ (dp − Σ dp ⊙ p). */
export function softmax(x: Tensor): Tensor {
  requireDType('softmax', x, 'float32');
  if (x.shape.length === 0) throw shapeError('softmax', 'a scalar has no axis to normalise', x.shape);
  const p: Tensor = x.graph.apply('softmax', [x], {}, [{ shape: x.shape }], (backward) =>
    backward.add(0, () => {
      const dp = backward.gradient;
      return multiply(p, subtract(dp, reduceSum(multiply(dp, p), -1, true)));
    }),
  )[0]!;
  return p;
}

/**
 * Root-mean-square normalisation over the last axis (Zhang & Sennrich 2019, arXiv 1910.07467): y = x·r·w with
 * r = 1/√(mean(x²) + epsilon). x [.., C], weight [C] → [.., C]. The node has a second output r [.., 1], which
 * only the backward pass reads: with g = dy·w, dx = r·g − x·r³·mean(g·x) and dw = Σ dy·x·r.
 * @throws SwarmError GRAPH_SHAPE
 */
export function rmsNorm(x: Tensor, weight: Tensor, epsilon: number): Tensor {
  requireDType('rmsNorm', x, 'float32');
  requireDType('rmsNorm', weight, 'float32');
  const width = x.shape.at(-1);
  if (width === undefined || weight.shape.length !== 1 || weight.shape[0] !== width) {
    throw shapeError('rmsNorm', 'the weight must be as long as the last axis', x.shape, weight.shape);
  }
  const outputs = [{ shape: x.shape }, { shape: x.shape.with(-1, 1) }];
  const [y, r]: readonly Tensor[] = x.graph.apply(
    'rmsNorm',
    [x, weight],
    { epsilon },
    outputs,
    (backward) => {
      const dy = backward.gradient;
      backward.contribute(0, (sum) => {
        const g = multiply(dy, weight);
        const cube = multiply(r!, multiply(r!, r!));
        const slope = multiply(reduceMean(multiply(g, x), -1, true), cube);
        const direct = multiply(g, r!);
        return subtract(sum === null ? direct : add(sum, direct), multiply(x, slope));
      });
      backward.add(1, () => sumTo(multiply(dy, multiply(x, r!)), weight.shape));
    },
  );
  return y!;
}

/**
 * Layer normalisation over the last axis (Ba et al. 2016, arXiv 1607.06450): y = (x − m)·r·w + b with m = mean(x) and
 * r = 1/√(mean((x − m)²) + epsilon). x [.., C], weight and bias [C] → [.., C]. The hidden outputs m and r [.., 1] are
 * for the backward pass: with n = (x − m)·r and g = dy·w,
 * dx = r·(g − mean(g) − n·mean(g·n)), dw = Σ dy·n and db = Σ dy.
 * @throws SwarmError GRAPH_SHAPE
 */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: number): Tensor {
  for (const operand of [x, weight, bias]) requireDType('layerNorm', operand, 'float32');
  const width = x.shape.at(-1);
  for (const { shape } of [weight, bias]) {
    if (shape.length !== 1 || shape[0] !== width) {
      throw shapeError('layerNorm', 'weight and bias must be as long as the last axis', x.shape, shape);
    }
  }
  const statistic = { shape: x.shape.with(-1, 1) };
  const outputs = [{ shape: x.shape }, statistic, statistic];
  const [y, mean, r]: readonly Tensor[] = x.graph.apply(
    'layerNorm',
    [x, weight, bias],
    { epsilon },
    outputs,
    (backward) => {
      const dy = backward.gradient;
      const normal = () => multiply(subtract(x, mean!), r!);
      backward.add(0, () => {
        const g = multiply(dy, weight);
        const n = normal();
        const along = multiply(n, reduceMean(multiply(g, n), -1, true));
        return multiply(subtract(subtract(g, reduceMean(g, -1, true)), along), r!);
      });
      backward.add(1, () => sumTo(multiply(dy, normal()), weight.shape));
      backward.add(2, () => sumTo(dy, bias.shape));
    },
  );
  return y!;
}
