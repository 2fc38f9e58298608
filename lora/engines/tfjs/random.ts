import { UNIFORM_STEPS } from '../../graph/ops/random.ts';
import { elementCount, type Shape } from '../../graph/shapes.ts';

/**
 * Computes the random numbers of lora/graph/ops/random.ts in JavaScript, where Math.imul is exact. The
 * backends of tfjs would be slow or wrong: TensorFlow multiplies int32 in main memory even on a GPU, and
 * tfjs' own backends round products to 53 bits.
 */
export function uniformValues(shape: Shape, seed: number, stream: number): Float32Array {
  const columns = shape.at(-1) ?? 1;
  const rows = elementCount(shape) / columns;
  const start = Math.imul(seed, UNIFORM_STEPS.seed) + stream;
  const key = hash(start | 0);
  const factorKey = hash((start + UNIFORM_STEPS.factor) | 0);
  const columnParts = new Int32Array(columns);
  const columnFactors = new Int32Array(columns);
  for (let j = 0; j < columns; j++) {
    const step = Math.imul(j, UNIFORM_STEPS.column);
    columnParts[j] = hash((step + key) | 0);
    columnFactors[j] = 2 * hash((step + factorKey) | 0);
  }
  const values = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    const step = Math.imul(i, UNIFORM_STEPS.row);
    const part = hash((step + key) | 0);
    const factor = 2 * hash((step + factorKey) | 0) + 1;
    for (let j = 0; j < columns; j++) {
      const value = permute(Math.imul(part + columnParts[j]!, factor + columnFactors[j]!));
      // Keeps the upper 24 bits, which float32 holds exactly. Read as signed, they range from −2^23 to 2^23 − 1. This
      // range is scaled to [0, 1).
      values[i * columns + j] = ((value / 2 ** 8) | 0) / 2 ** 24 + 0.5;
    }
  }
  return values;
}

/** x·(2x + 1) */
function permute(x: number): number {
  return Math.imul(x, 2 * x + 1);
}

/**
 * Mixes the bits of a number: adds the upper bits to the lower bits, and then multiplies. The addition is needed
 * because in a product, no bit depends on higher bits of the factors. The division rounds towards zero.
 */
function mix(x: number): number {
  return permute((x + ((x / 2 ** 16) | 0)) | 0);
}

function hash(x: number): number {
  return mix(mix(mix(x)));
}
