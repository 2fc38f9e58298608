import type { GradientRule, Tensor } from '../graph.ts';

/** Returns the value of `result`, with `rule` as its gradient rule. Inputs 1, 2, … of the rule are `operands`. */
export function withGradient(result: Tensor, operands: readonly Tensor[], rule: GradientRule): Tensor {
  const output = [{ shape: result.shape }];
  return result.graph.apply('customGradient', [result, ...operands], {}, output, rule)[0]!;
}

/** Returns x as a constant for the backward pass, so that no gradient flows through it. */
export function detach(x: Tensor): Tensor {
  return withGradient(x, [], () => {});
}
