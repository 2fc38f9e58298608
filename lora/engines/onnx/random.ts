import type { GraphNode } from '../../graph/graph.ts';
import { elementCount } from '../../graph/shapes.ts';
import type { Emitter } from './lower.ts';

const INT32 = 6;
const FLOAT = 1;

/** Odd constants of the golden ratio and of SplitMix and MurmurHash; any odd ones with mixed bits would do. */
const SEED_STEP = 0x9e3779b1;
const ROW_STEP = 0x85ebca6b;
const COLUMN_STEP = 0xc2b2ae35;
const FACTOR_STEP = 0x27d4eb2f;

/**
 * The numbers of lora/graph/ops/random.ts. Everything is int32 with wrap-around, and of int32 only addition, product
 * and division (towards zero), which every provider has.
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
  /** x·(2x + 1) */
  const permute = (x: string) => multiply(x, add(add(x, x), word(1)));
  /** Carries upper bits down, which products do not, then lower ones up. */
  const mix = (x: string) => permute(add(x, emit('Div', [x, word(2 ** 16)])));
  const hash = (x: string) => mix(mix(mix(x)));
  const numbers = (count: number, step: number, key: string, shape: readonly number[]) => {
    const steps = Array.from({ length: count }, (_, i) => Math.imul(i, step));
    const range = emit('Cast', [integers(steps)], { attributes: { to: INT32 } });
    return emit('Reshape', [hash(add(range, key)), integers(shape)]);
  };
  const odd = (x: string) => add(add(x, x), word(1));
  const even = (x: string) => add(x, x);

  const start = multiply(emit('Cast', [seed!], { attributes: { to: INT32 } }), word(SEED_STEP));
  const key = hash(add(hash(start), word(stream)));
  const factorKey = hash(add(key, word(FACTOR_STEP)));
  const column = (count: number, step: number, of: string) => numbers(count, step, of, [count, 1]);
  const row = (count: number, step: number, of: string) => numbers(count, step, of, [1, count]);
  const sum = add(column(rows, ROW_STEP, key), row(columns, COLUMN_STEP, key));
  const factor = add(odd(column(rows, ROW_STEP, factorKey)), even(row(columns, COLUMN_STEP, factorKey)));
  const value = permute(multiply(sum, factor));
  // Upper 24 bits, as many as a float32 holds exactly: from −2^23 to 2^23 − 1, then into [0, 1).
  const upper = emit('Cast', [emit('Div', [value, word(2 ** 8)])], { attributes: { to: FLOAT } });
  const unit = emit('Add', [emit('Mul', [upper, scalar(2 ** -24)]), scalar(0.5)]);
  emit('Reshape', [unit, integers(shape)], { outputs });
}

/** 0 below the rate, 1/(1 − rate) from it on. */
export function lowerKeepMask(
  { attributes: { rate } }: GraphNode<'keepMask'>,
  [random]: readonly string[],
  outputs: readonly string[],
  { emit, scalar }: Emitter,
): void {
  const kept = emit('Cast', [emit('GreaterOrEqual', [random!, scalar(rate)])], { attributes: { to: FLOAT } });
  emit('Mul', [kept, scalar(1 / (1 - rate))], { outputs });
}
