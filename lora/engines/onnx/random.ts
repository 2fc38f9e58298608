import type { GraphNode } from '../../graph/graph.ts';
import { UNIFORM_STEPS } from '../../graph/ops/random.ts';
import { elementCount } from '../../graph/shapes.ts';
import type { Emitter } from './emitter.ts';

const INT32 = 6;
const FLOAT = 1;

/**
 * Emits the random numbers of lora/graph/ops/random.ts. All values are int32 with wrap-around. The only operations are
 * addition, multiplication and division towards zero, which every provider has for int32.
 */
export function lowerUniform(
  { attributes: { shape, stream } }: GraphNode<'uniform'>,
  [seed]: readonly string[],
  outputs: readonly string[],
  emitter: Emitter,
): void {
  const { emit, integers, scalar } = emitter;
  const columns = shape.at(-1) ?? 1;
  const rows = elementCount(shape) / columns;
  const word = (value: number) => emit('Cast', [integers([value | 0])], { attributes: { to: INT32 } });
  const add = (a: string, b: string) => emit('Add', [a, b]);
  const multiply = (a: string, b: string) => emit('Mul', [a, b]);
  /** Permutes the 32-bit numbers, as RC6 does: x·(2x + 1). */
  const permute = (x: string) => multiply(x, add(add(x, x), word(1)));
  /**
   * Adds the upper bits to the lower bits, and then permutes. The addition is needed because in a product, no bit
   * depends on higher bits of the factors.
   */
  const mix = (x: string) => permute(add(x, emit('Div', [x, word(2 ** 16)])));
  const hash = (x: string) => mix(mix(mix(x)));
  const words = (values: readonly number[], shape: readonly number[]) =>
    emit('Reshape', [emit('Cast', [integers(values)], { attributes: { to: INT32 } }), integers(shape)]);
  const steps = (count: number, step: number) => Array.from({ length: count }, (_, i) => Math.imul(i, step));

  const start = multiply(emit('Cast', [seed!], { attributes: { to: INT32 } }), word(UNIFORM_STEPS.seed));
  // First computes two keys in one chain of operations. A second chain then computes the hashes of all rows and columns
  // with each key.
  const keys = hash(add(add(start, word(stream)), words([0, UNIFORM_STEPS.factor | 0], [2, 1])));
  const numbers = words(
    [...steps(rows, UNIFORM_STEPS.row), ...steps(columns, UNIFORM_STEPS.column)],
    [1, rows + columns],
  );
  const hashes = hash(add(numbers, keys));
  const part = (key: number, from: number, count: number, shape: readonly number[]) => {
    const bounds = [integers([key, from]), integers([key + 1, from + count])];
    return emit('Reshape', [emit('Slice', [hashes, ...bounds]), integers(shape)]);
  };
  const row = (key: number) => part(key, 0, rows, [rows, 1]);
  const column = (key: number) => part(key, rows, columns, [1, columns]);
  const twice = (x: string) => add(x, x);
  const sum = add(row(0), column(0));
  const factor = add(add(twice(row(1)), word(1)), twice(column(1)));
  const value = permute(multiply(sum, factor));
  // Keeps the upper 24 bits, which float32 holds exactly. Read as signed, they range from −2^23 to 2^23 − 1. This range
  // is scaled to [0, 1).
  const upper = emit('Cast', [emit('Div', [value, word(2 ** 8)])], { attributes: { to: FLOAT } });
  const unit = emit('Add', [emit('Mul', [upper, scalar(2 ** -24)]), scalar(0.5)]);
  emit('Reshape', [unit, integers(shape)], { outputs });
}

/** Emits a mask for dropout: 0 where the random number is below the rate, 1/(1 − rate) elsewhere. */
export function lowerKeepMask(
  { attributes: { rate } }: GraphNode<'keepMask'>,
  [random]: readonly string[],
  outputs: readonly string[],
  { emit, scalar }: Emitter,
): void {
  const kept = emit('Cast', [emit('GreaterOrEqual', [random!, scalar(rate)])], { attributes: { to: FLOAT } });
  emit('Mul', [kept, scalar(1 / (1 - rate))], { outputs });
}
