import type { GradientRule, Tensor } from '../graph.ts';

/** The value of `result` with a gradient rule of its own: inputs 1… of the rule are `operands`. */
export function withGradient(result: Tensor, operands: readonly Tensor[], rule: GradientRule): Tensor {
  const output = [{ shape: result.shape }];
  return result.graph.apply('customGradient', [result, ...operands], {}, output, rule)[0]!;
}

/** x as a constant for the backward pass: nothing below it gets a gradient through here. */
export function detach(x: Tensor): Tensor {
  return withGradient(x, [], () => {});
}
