import { createHash } from 'node:crypto';
import { updateError } from './errors.ts';

/** A tensor of the adapter. All lists of tensors in this folder are in the order of the layout. */
export interface LayoutTensor {
  readonly name: string;
  readonly shape: readonly number[];
}

/** The tensors of an adapter. Every list of tensors has this order. */
export type UpdateLayout = readonly LayoutTensor[];

/** Sizes and digest of a layout, computed once. Encoder, decoder and merge take all sizes from here. */
export interface LayoutPlan {
  /** Number of values of each tensor. */
  readonly sizes: readonly number[];
  /** Number of values of all tensors. */
  readonly parameters: number;
  /** First 8 bytes of SHA-256 over the names and shapes; see `layoutDigest`. */
  readonly digest: Uint8Array;
}

/**
 * Maximum number of values of a layout. This limit keeps every offset and every sum of sizes within int32, which the
 * loops over typed arrays need.
 */
export const MAX_LAYOUT_PARAMETERS = 2 ** 30;

/**
 * Number of bytes of a layout's digest in an update. 8 bytes are enough, because this digest only catches mistakes. The
 * signed envelope binds an update to its job.
 */
export const LAYOUT_DIGEST_BYTES = 8;

const plans = new WeakMap<UpdateLayout, LayoutPlan>();

/**
 * Computes sizes and digest of a layout. Cached per layout object, which must not change afterwards.
 * @throws UPDATE_SHAPE when a dimension is not a positive integer, a name repeats or the total is too large
 */
export function planLayout(layout: UpdateLayout): LayoutPlan {
  const known = plans.get(layout);
  if (known) return known;
  const names = new Set<string>();
  let parameters = 0;
  const sizes = layout.map(({ name, shape }) => {
    if (names.has(name))
      throw updateError('UPDATE_SHAPE', `tensor ${name} occurs twice in the layout`, { name });
    names.add(name);
    const size = shape.reduce((product, dimension) => {
      if (Number.isSafeInteger(dimension) && dimension > 0) return product * dimension;
      throw updateError(
        'UPDATE_SHAPE',
        `tensor ${name} has shape [${shape}], where ${dimension} is not a positive integer`,
        {
          name,
          shape,
        },
      );
    }, 1);
    parameters += size;
    return size;
  });
  if (parameters === 0 || parameters > MAX_LAYOUT_PARAMETERS) {
    throw updateError(
      'UPDATE_SHAPE',
      `the layout has ${parameters} values; it can have 1 to ${MAX_LAYOUT_PARAMETERS}`,
      {
        parameters,
        maximum: MAX_LAYOUT_PARAMETERS,
      },
    );
  }
  const plan = { sizes, parameters, digest: layoutDigest(layout) };
  plans.set(layout, plan);
  return plan;
}

/** Computes the first 8 bytes of SHA-256 over the UTF-8 of `JSON.stringify([[name, [dimension, …]], …])`. */
function layoutDigest(layout: UpdateLayout): Uint8Array {
  const text = JSON.stringify(layout.map(({ name, shape }) => [name, shape]));
  return new Uint8Array(createHash('sha256').update(text).digest().subarray(0, LAYOUT_DIGEST_BYTES));
}

/**
 * Checks that there is one tensor of the right length for each entry of the layout.
 * @throws UPDATE_SHAPE
 */
export function checkTensors(layout: UpdateLayout, tensors: readonly Float32Array[]): void {
  const { sizes } = planLayout(layout);
  if (tensors.length !== sizes.length) {
    throw updateError('UPDATE_SHAPE', `got ${tensors.length} tensors; the layout has ${sizes.length}`, {
      given: tensors.length,
      expected: sizes.length,
    });
  }
  for (const [position, size] of sizes.entries()) {
    const given = tensors[position]!.length;
    if (given === size) continue;
    const { name } = layout[position]!;
    throw updateError('UPDATE_SHAPE', `tensor ${name} has ${given} values; the layout has ${size}`, {
      name,
      given,
      expected: size,
    });
  }
}

/** Returns a tensor of zeros for each entry of the layout. */
export function zeros(layout: UpdateLayout): Float32Array[] {
  return planLayout(layout).sizes.map((size) => new Float32Array(size));
}
