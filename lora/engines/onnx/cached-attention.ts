import type { GraphNode } from '../../graph/graph.ts';
import { type Emitter, MICROSOFT } from './emitter.ts';

const INT32 = 6;

/**
 * Emits GroupQueryAttention. The kernel takes [rows, tokens per row, width]. The number of rows is the number
 * of values in `lengths`. The second and third result are the updated cache. If they share the memory of the
 * cache, the kernel writes only the new keys and values.
 */
export function lowerCachedAttention(
  node: GraphNode<'cachedAttention'>,
  inputs: readonly string[],
  [output, presentKeys, presentValues]: readonly string[],
  { emit, once, integers }: Emitter,
): void {
  const { heads, keyValueHeads, window, scale, isJoint } = node.attributes;
  const count = isJoint ? 1 : 3;
  const [keys, values, lengths, ...rotation] = inputs.slice(count);
  const memo = (what: string, make: () => string) => once(`${what} ${lengths}`, make);
  const int32 = (value: string) => emit('Cast', [value], { attributes: { to: INT32 } });
  // These values are the same in all layers, so they are computed once.
  const last = memo('last', () => int32(emit('Sub', [lengths!, integers([1])])));
  const total = memo('total', () => int32(emit('ReduceMax', [lengths!], { attributes: { keepdims: 0 } })));
  const byRow = (value: string, width: number) => {
    const parts = () => [emit('Shape', [lengths!]), integers([-1, width])];
    const shape = memo(`shape ${width}`, () => emit('Concat', parts(), { attributes: { axis: 0 } }));
    return emit('Reshape', [value, shape]);
  };
  const operands = inputs.slice(0, count).map((value, i) => byRow(value, node.inputs[i]!.shape[1]!));
  const [q, k = '', v = ''] = operands;
  const attributes = {
    num_heads: heads,
    kv_num_heads: keyValueHeads,
    scale: { float: scale },
    // Needs no conversion, because our graph and onnxruntime (since 1.23) both count the token itself in the window.
    ...(window !== null && { local_window_size: window }),
    do_rotary: rotation.length > 0 ? 1 : 0,
  };
  const mixed = `${output}:rows`;
  emit('GroupQueryAttention', [q!, k, v, keys!, values!, last, total, ...rotation], {
    attributes,
    domain: MICROSOFT,
    outputs: [mixed, presentKeys!, presentValues!],
  });
  emit('Reshape', [mixed, integers([-1, node.outputs[0]!.shape[1]!])], { outputs: [output!] });
}
