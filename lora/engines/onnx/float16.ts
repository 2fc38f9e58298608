import type { GraphNode } from '../../graph/graph.ts';
import type { Emitter } from './emitter.ts';
import { emitSum, finishProduct } from './quantised.ts';

const FLOAT = 1;
const FLOAT16 = 10;

/**
 * Maximum number of terms of a sum in float16. onnxruntime's WebGPU kernels accumulate in float16, so the error of a
 * matrix product grows with the square root of the number of terms. At 1,024 terms it is 0.25 % (x·Wᵀ) and 0.46 % (x·W)
 * of the result; at 8,192 terms it is 0.7 % and 1.3 %. Longer sums are split into chunks of this length, and the sums of
 * the chunks are added in float32. With chunks of half this length, there would be twice as many chunk sums to write,
 * and the error would be 0.7 times as large.
 */
export const MAX_SUM_TERMS = 1024;

/**
 * Emits x·W or x·Wᵀ with operands in float16. onnxruntime casts a weight once, when it creates the session, and keeps
 * the result on the device instead of the weight. Only WebGPU splits long sums, because CUDA's kernels accumulate in
 * float32.
 *
 * @param float16 returns the name of the float16 copy of a value. All uses of the value share this copy.
 */
export function lowerFloat16Product(
  node: GraphNode<'gemm'>,
  inputs: readonly string[],
  outputs: readonly string[],
  float16: (name: string) => string,
  emitter: Emitter,
): void {
  const { emit, integers, variable, provider } = emitter;
  const { transposeB } = node.attributes;
  const depth = node.inputs[0]!.shape[1]!;
  const [x, w] = inputs.slice(0, 2).map(float16) as [string, string];
  const axes = [1, transposeB ? 1 : 0];
  const attributes = { transA: 0, transB: transposeB ? 1 : 0, alpha: { float: 1 }, beta: { float: 1 } };
  const pieces = provider === 'webgpu' ? Math.ceil(depth / MAX_SUM_TERMS) : 1;
  const bounds = Array.from({ length: pieces + 1 }, (_, i) => Math.round((i * depth) / pieces));
  // The bounds are variables, because with constants, onnxruntime would fold the slices of a weight into a
  // second copy on the device.
  const slice = (name: string, axis: number, i: number) =>
    emit('Slice', [name, variable([bounds[i]!]), variable([bounds[i + 1]!]), integers([axis])]);
  const sums = Array.from({ length: pieces }, (_, i) => {
    const operands = [x, w].map((name, side) => (pieces === 1 ? name : slice(name, axes[side]!, i)));
    return emit('Gemm', operands, { attributes });
  });
  const toFloat = (sum: string, options: { outputs?: readonly string[] } = {}) =>
    emit('Cast', [sum], { ...options, attributes: { to: FLOAT } });
  finishProduct(node, inputs, outputs, emitter, (options) =>
    sums.length === 1
      ? toFloat(sums[0]!, options)
      : emitSum(
          sums.map((sum) => toFloat(sum)),
          emitter,
          options,
        ),
  );
}

export function emitFloat16(name: string, { emit }: Emitter): string {
  return emit('Cast', [name], { attributes: { to: FLOAT16 } });
}
