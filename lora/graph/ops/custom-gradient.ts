import type { GradientRule, Tensor } from '../graph.ts';

/**
 * Returns a tensor with the values of `result` and the gradient rule `rule`. The rule sees `result` as input 0, and the
 * `operands` as inputs 1, 2, and so on.
 */
export function withGradient(result: Tensor, operands: readonly Tensor[], rule: GradientRule): Tensor {
  const output = [{ shape: result.shape }];
  return result.graph.apply('customGradient', [result, ...operands], {}, output, rule)[0]!;
}

/** Returns x as a constant for the backward pass, so that no gradient flows through it. */
export function detach(x: Tensor): Tensor {
  return withGradient(x, [], () => {});
}
