import { dynamicName } from '../../graph/dynamic.ts';
import type { GraphNode, Tensor } from '../../graph/graph.ts';
import type { Operation } from '../../graph/operations.ts';
import { GELU_CUBIC, GELU_SLOPE } from '../../graph/ops/elementwise.ts';
import { MASKED } from '../../graph/ops/mask.ts';
import { lowerCachedAttention } from './cached-attention.ts';
import { type Emitter, type Lowering, MICROSOFT } from './emitter.ts';
import { lowerKeepMask, lowerUniform } from './random.ts';

function direct<K extends Operation>(type: string): Lowering<K> {
  return (_node, inputs, outputs, emitter) => {
    emitter.emit(type, inputs, { outputs });
  };
}

const rank = (tensor: Tensor | undefined): number => tensor!.shape.length;

/** Lowerings of all operations of the graph to ONNX operators (opset 18) and onnxruntime's contrib operators. */
export const LOWERINGS: { readonly [K in Operation]: Lowering<K> } = {
  add: direct('Add'),
  subtract: direct('Sub'),
  multiply: direct('Mul'),
  divide: direct('Div'),
  negate: direct('Neg'),
  exp: direct('Exp'),
  log: direct('Log'),
  sqrt: direct('Sqrt'),
  sigmoid: direct('Sigmoid'),
  silu(_node, [x], [y, sigma], { emit }) {
    emit('Sigmoid', [x!], { outputs: [sigma!] });
    emit('Mul', [x!, sigma!], { outputs: [y!] });
  },
  geluTanh(_node, [x], [y, sigma], { emit, scalar }) {
    const cubic = emit('Mul', [emit('Mul', [x!, x!]), scalar(GELU_SLOPE * GELU_CUBIC)]);
    const u = emit('Mul', [x!, emit('Add', [cubic, scalar(GELU_SLOPE)])]);
    emit('Sigmoid', [u], { outputs: [sigma!] });
    emit('Mul', [x!, sigma!], { outputs: [y!] });
  },
  broadcast({ attributes }, [x], outputs, { emit, integers }) {
    emit('Expand', [x!, integers(attributes.shape)], { outputs });
  },
  sum({ attributes }, [x], outputs, { emit, integers }) {
    const options = { outputs, attributes: { keepdims: attributes.keepDims ? 1 : 0 } };
    emit('ReduceSum', [x!, integers(attributes.axes)], options);
  },
  reshape({ attributes }, [x], outputs, { emit, integers }) {
    // −1 lets onnxruntime infer a size. It can infer one size of a shape, and no shape has more than one dynamic size.
    const shape = attributes.shape.map((size) => (dynamicName(size) === undefined ? size : -1));
    emit('Reshape', [x!, integers(shape)], { outputs });
  },
  transpose({ attributes }, [x], outputs, { emit }) {
    emit('Transpose', [x!], { outputs, attributes: { perm: attributes.permutation } });
  },
  slice({ attributes: { axis, start, end } }, [x], outputs, { emit, integers }) {
    emit('Slice', [x!, integers([start]), integers([end]), integers([axis])], { outputs });
  },
  pad({ attributes: { axis, before, after }, inputs: [tensor] }, [x], outputs, { emit, integers }) {
    const pads = new Array<number>(2 * rank(tensor)).fill(0);
    pads[axis] = before;
    pads[axis + rank(tensor)] = after;
    emit('Pad', [x!, integers(pads)], { outputs });
  },
  concat({ attributes }, inputs, outputs, { emit }) {
    emit('Concat', inputs, { outputs, attributes: { axis: attributes.axis } });
  },
  gemm(node, inputs, outputs, { emit, provider }) {
    const { transposeA, transposeB, alpha, beta } = node.attributes;
    const attributes = {
      transA: transposeA ? 1 : 0,
      transB: transposeB ? 1 : 0,
      alpha: { float: alpha },
      beta: { float: beta },
    };
    const [a, b, addend] = inputs as readonly [string, string, string?];
    if (addend !== undefined && provider === 'cpu' && addsThinly(node)) {
      emit('Add', [emit('Gemm', [a, b], { attributes }), addend], { outputs });
    } else emit('Gemm', inputs, { outputs, attributes });
  },
  batchedMatmul(node, inputs, outputs, { emit, scalar, provider }) {
    const { transposeA, transposeB, alpha } = node.attributes;
    if (provider === 'cpu') {
      const attributes = { transA: transposeA ? 1 : 0, transB: transposeB ? 1 : 0, alpha: { float: alpha } };
      emit('FusedMatMul', inputs, { outputs, attributes, domain: MICROSOFT });
      return;
    }
    // WebGPU has no kernel for FusedMatMul, so onnxruntime would fetch the operands from the device and multiply on the
    // processor. CUDA has this kernel, and onnxruntime fuses the nodes emitted here into a FusedMatMul.
    const [a, b] = [transposeA, transposeB].map((transposed, i) => {
      if (!transposed) return inputs[i]!;
      const axes = node.inputs[i]!.shape.map((_, axis) => axis);
      return emit('Transpose', [inputs[i]!], {
        attributes: { perm: [...axes.slice(0, -2), ...axes.slice(-2).reverse()] },
      });
    });
    if (alpha === 1) emit('MatMul', [a!, b!], { outputs });
    else emit('Mul', [emit('MatMul', [a!, b!]), scalar(alpha)], { outputs });
  },
  softmax(_node, [x], outputs, { emit }) {
    emit('Softmax', [x!], { outputs, attributes: { axis: -1 } });
  },
  // The largest probability is e⁰/Σe^(x − max), so its logarithm gives −log Σe^(x − max) without a second pass of
  // exponentials and without underflow.
  logSumExp(_node, [x, probabilities], outputs, { emit, integers }) {
    const last = integers([-1]);
    const [top, topProbability] = [x!, probabilities!].map((value) => emit('ReduceMax', [value, last]));
    emit('Sub', [top!, emit('Log', [topProbability!])], { outputs });
  },
  rmsNorm({ attributes: { epsilon } }, [x, weight], [y, r], { emit, integers, scalar, provider }) {
    const attributes = { axis: -1, epsilon: { float: epsilon }, stash_type: 1 };
    const secondOutput = r !== undefined && provider === 'cpu' ? [y!, r] : [y!];
    emit('SimplifiedLayerNormalization', [x!, weight!], { outputs: secondOutput, attributes });
    if (r === undefined || provider === 'cpu') return;
    // On WebGPU, r is computed by separate nodes, because the second output of onnxruntime 1.30's WebGPU kernel is the
    // mean of x. On the CPU, the second output is r, as documented.
    const square = emit('ReduceMean', [emit('Mul', [x!, x!]), integers([-1])]);
    const root = emit('Sqrt', [emit('Add', [square, scalar(epsilon)])]);
    emit('Reciprocal', [root], { outputs: [r] });
  },
  layerNorm({ attributes: { epsilon } }, inputs, [y, mean, r], emitter) {
    const { emit, integers, scalar, provider } = emitter;
    const attributes = { axis: -1, epsilon: { float: epsilon }, stash_type: 1 };
    const statistics = mean !== undefined && r !== undefined ? [mean, r] : [];
    const outputs = provider === 'cpu' ? [y!, ...statistics] : [y!];
    emit('LayerNormalization', inputs, { outputs, attributes });
    if (statistics.length === 0 || provider === 'cpu') return;
    // As in rmsNorm, the second and third outputs of the WebGPU kernel cannot be relied on.
    const [x] = inputs;
    emit('ReduceMean', [x!, integers([-1])], { outputs: [mean!] });
    const centred = emit('Sub', [x!, mean!]);
    const variance = emit('ReduceMean', [emit('Mul', [centred, centred]), integers([-1])]);
    emit('Reciprocal', [emit('Sqrt', [emit('Add', [variance, scalar(epsilon)])])], { outputs: [r!] });
  },
  causalMask({ attributes: { window }, inputs: [rows] }, [positions, index], outputs, emitter) {
    const { emit, integers, scalar } = emitter;
    const [batch, length] = rows!.shape as [number, number];
    // `reach` is the number of earlier tokens that a token sees, and `first` the position of the first of them.
    const reach = window === null ? positions! : emit('Min', [positions!, integers([window - 1])]);
    const first = emit('Reshape', [emit('Sub', [index!, reach]), integers([batch, 1, 1, length, 1])]);
    const row = emit('Reshape', [index!, integers([length, 1])]);
    const fromFirst = emit('GreaterOrEqual', [index!, first]);
    const seen = emit('And', [fromFirst, emit('LessOrEqual', [index!, row])]);
    emit('Where', [seen, scalar(0), scalar(MASKED)], { outputs });
  },
  rotary(_node, inputs, outputs, { emit }) {
    emit('RotaryEmbedding', inputs, { outputs, domain: MICROSOFT });
  },
  cachedAttention: lowerCachedAttention,
  zeros({ attributes }, _inputs, outputs, { emit, integers }) {
    emit('ConstantOfShape', [integers(attributes.shape)], { outputs });
  },
  gatherRows(_node, inputs, outputs, { emit }) {
    emit('Gather', inputs, { outputs });
  },
  // ScatterElements needs an id for every value. ScatterND would need only one for each row, but its CPU kernel adds rows
  // in parallel, so rows with the same id would race.
  scatterAddRows({ inputs: [, , rows] }, [base, ids, updates], outputs, { emit, integers }) {
    const column = emit('Unsqueeze', [ids!, integers([1])]);
    const everywhere = emit('Expand', [column, integers(rows!.shape)]);
    emit('ScatterElements', [base!, everywhere, updates!], {
      outputs,
      attributes: { axis: 0, reduction: 'add' },
    });
  },
  // −log p[label] = log Σe^(z − max) + max − z[label]. The largest probability is e⁰/Σe^(z − max), so its
  // logarithm gives the first term without a second pass of exponentials and without underflow.
  softmaxCrossEntropy(node, [logits, labels], [loss, probabilities], { emit, integers }) {
    const last = integers([-1]);
    const column = integers([1]);
    emit('Softmax', [logits!], { outputs: [probabilities!], attributes: { axis: -1 } });
    const top = emit('ReduceMax', [logits!, last]);
    const topProbability = emit('ReduceMax', [probabilities!, last]);
    const target = emit('Unsqueeze', [emit('Max', [labels!, integers([0])]), column]);
    const picked = emit('GatherElements', [logits!, target], { attributes: { axis: 1 } });
    const total = emit('Sub', [emit('Sub', [top, picked]), emit('Log', [topProbability])]);
    const flat = emit('Reshape', [total, integers(node.outputs[0]!.shape)]);
    emit('Mul', [flat, supervised(labels!, emit, integers)], { outputs: [loss!] });
  },
  crossEntropyGradient(_node, [probabilities, labels, weights], outputs, { emit, integers }) {
    const target = emit('Unsqueeze', [labels!, integers([1])]);
    const spread = emit('Mul', [probabilities!, weights!]);
    const options = { outputs, attributes: { axis: 1, reduction: 'add' } };
    emit('ScatterElements', [spread, target, emit('Neg', [weights!])], options);
  },
  supervised(_node, [labels], outputs, { emit, integers }) {
    emit('Identity', [supervised(labels!, emit, integers)], { outputs });
  },
  clampLabels(_node, [labels], outputs, { emit, integers }) {
    emit('Max', [labels!, integers([0])], { outputs });
  },
  uniform: lowerUniform,
  keepMask: lowerKeepMask,
  customGradient(_node, [value], outputs, { emit }) {
    emit('Identity', [value!], { outputs });
  },
};

/** Largest inner size at which a matrix product costs little compared with adding its result to a matrix. */
const THIN_DEPTH = 128;

/**
 * Returns whether a matrix product with a small inner size, such as a LoRA branch, is added to a whole matrix. On the
 * CPU, a separate addition is then faster, because it runs on all threads. Gemm would copy the matrix on one thread, and
 * then read and write it again.
 */
function addsThinly({ attributes: { transposeA, beta }, inputs: [a, , addend] }: GraphNode<'gemm'>): boolean {
  return beta === 1 && rank(addend) === 2 && a!.shape[transposeA ? 0 : 1]! <= THIN_DEPTH;
}

/** Returns 1 for labels ≥ 0, else 0, in float32. Labels are integers, so this is clip(label + 1, 0, 1). */
function supervised(labels: string, emit: Emitter['emit'], integers: Emitter['integers']): string {
  const clipped = emit('Min', [
    emit('Max', [emit('Add', [labels, integers([1])]), integers([0])]),
    integers([1]),
  ]);
  return emit('Cast', [clipped], { attributes: { to: 1 } });
}
