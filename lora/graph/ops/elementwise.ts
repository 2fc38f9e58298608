import { type GradientRule, requireDType, type Tensor } from '../graph.ts';
import { broadcastShapes } from '../shapes.ts';
import { sumTo } from './reduce.ts';

type Binary = 'add' | 'subtract' | 'multiply' | 'divide';
type Unary = 'negate' | 'exp' | 'log' | 'sqrt' | 'sigmoid';

function binary(operation: Binary, a: Tensor, b: Tensor, gradient: GradientRule): Tensor {
  requireDType(operation, a, 'float32');
  requireDType(operation, b, 'float32');
  const shape = broadcastShapes(operation, a.shape, b.shape);
  return a.graph.apply(operation, [a, b], {}, [{ shape }], gradient)[0]!;
}

/** a + b with NumPy broadcasting. @throws SwarmError GRAPH_SHAPE */
export function add(a: Tensor, b: Tensor): Tensor {
  return binary('add', a, b, (backward) => {
    backward.add(0, () => sumTo(backward.gradient, a.shape));
    backward.add(1, () => sumTo(backward.gradient, b.shape));
  });
}

/** a − b with NumPy broadcasting. @throws SwarmError GRAPH_SHAPE */
export function subtract(a: Tensor, b: Tensor): Tensor {
  return binary('subtract', a, b, (backward) => {
    backward.add(0, () => sumTo(backward.gradient, a.shape));
    backward.contribute(1, (sum) => {
      const part = sumTo(backward.gradient, b.shape);
      return sum === null ? negate(part) : subtract(sum, part);
    });
  });
}

/** a · b elementwise with NumPy broadcasting. @throws SwarmError GRAPH_SHAPE */
export function multiply(a: Tensor, b: Tensor): Tensor {
  return binary('multiply', a, b, (backward) => {
    backward.add(0, () => sumTo(multiply(backward.gradient, b), a.shape));
    backward.add(1, () => sumTo(multiply(backward.gradient, a), b.shape));
  });
}

/** a / b elementwise with NumPy broadcasting. d/db = −a/b². @throws SwarmError GRAPH_SHAPE */
export function divide(a: Tensor, b: Tensor): Tensor {
  return binary('divide', a, b, (backward) => {
    const overB = divide(backward.gradient, b);
    backward.add(0, () => sumTo(overB, a.shape));
    backward.add(1, () => sumTo(negate(multiply(overB, divide(a, b))), b.shape));
  });
}

/** x · factor for a plain number. */
export function scale(x: Tensor, factor: number): Tensor {
  return factor === 1 ? x : multiply(x, x.graph.constant([], Float32Array.of(factor)));
}

function unary(operation: Unary, x: Tensor, gradientOf: (dy: Tensor) => Tensor): Tensor {
  requireDType(operation, x, 'float32');
  return x.graph.apply(operation, [x], {}, [{ shape: x.shape }], (backward) =>
    backward.add(0, () => gradientOf(backward.gradient)),
  )[0]!;
}

/** −x */
export function negate(x: Tensor): Tensor {
  return unary('negate', x, negate);
}

/** eˣ */
export function exp(x: Tensor): Tensor {
  const y: Tensor = unary('exp', x, (dy) => multiply(dy, y));
  return y;
}

/** Natural logarithm. */
export function log(x: Tensor): Tensor {
  return unary('log', x, (dy) => divide(dy, x));
}

/** √x; d/dx = 1/(2√x) */
export function sqrt(x: Tensor): Tensor {
  const y: Tensor = unary('sqrt', x, (dy) => divide(scale(dy, 0.5), y));
  return y;
}

/** σ(x) = 1/(1 + e⁻ˣ); σ′ = σ(1 − σ) */
export function sigmoid(x: Tensor): Tensor {
  const y: Tensor = unary('sigmoid', x, (dy) => multiply(dy, subtract(y, multiply(y, y))));
  return y;
}

/**
 * y = x·σ(x), the activation of SwiGLU. The second, hidden output σ(x) is for the backward pass:
 * y′ = σ + y(1 − σ) = y + σ(1 − y).
 */
export function silu(x: Tensor): Tensor {
  requireDType('silu', x, 'float32');
  const one = x.graph.constant([], Float32Array.of(1));
  const [y, sigma]: readonly Tensor[] = x.graph.apply(
    'silu',
    [x],
    {},
    [{ shape: x.shape }, { shape: x.shape }],
    (backward) =>
      backward.add(0, () => multiply(backward.gradient, add(y!, multiply(sigma!, subtract(one, y!))))),
  );
  return y!;
}

/** Constants of the tanh approximation of GELU: 2√(2/π), and the weight of the cubic term. */
export const GELU_SLOPE = 2 * Math.sqrt(2 / Math.PI);
export const GELU_CUBIC = 0.044715;

/**
 * GELU in its tanh approximation (Hendrycks & Gimpel 2016, arXiv 1606.08415), transformers' `gelu_new` and
 * `gelu_pytorch_tanh`: y = x·(1 + tanh(u/2))/2 = x·σ(u) with u = 2√(2/π)·(x + 0.044715 x³). The second, hidden output
 * σ(u) is for the backward pass: y′ = σ + u′·y·(1 − σ).
 */
export function geluTanh(x: Tensor): Tensor {
  requireDType('geluTanh', x, 'float32');
  const constant = (value: number) => x.graph.constant([], Float32Array.of(value));
  const outputs = [{ shape: x.shape }, { shape: x.shape }];
  const [y, sigma]: readonly Tensor[] = x.graph.apply('geluTanh', [x], {}, outputs, (backward) =>
    backward.add(0, () => {
      const slope = add(scale(multiply(x, x), 3 * GELU_CUBIC * GELU_SLOPE), constant(GELU_SLOPE));
      const bend = multiply(multiply(y!, slope), subtract(constant(1), sigma!));
      return multiply(backward.gradient, add(sigma!, bend));
    }),
  );
  return y!;
}
