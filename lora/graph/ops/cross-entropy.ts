import { graphError } from '../errors.ts';
import { requireDType, type Tensor } from '../graph.ts';
import { shapeError } from '../shapes.ts';
import { withGradient } from './custom-gradient.ts';
import { add, exp, multiply, negate, scale, subtract } from './elementwise.ts';
import { gatherRows, scatterAddRows } from './embedding.ts';
import { concat, reshape, slice } from './layout.ts';
import { reduceMean, softmax } from './normalization.ts';
import { addmm, linear, matmul } from './products.ts';
import { reduceSum } from './reduce.ts';

/**
 * Number of bytes of logits that exist at a time. The logits, tokens × vocabulary, are by far the largest
 * matrix of a training step. A chunk of this size still has a hundred tokens at a vocabulary of 150,000. With
 * half this size, the matrix products are 20 % slower.
 */
export const LOGITS_CHUNK_BYTES = 64 * 2 ** 20;

export interface CrossEntropyOptions {
  /** Label smoothing ε, at least 0 and below 1. @default 0 */
  smoothing?: number;
  /**
   * Number of rows of a frozen head that are computed at a time. @default `vocabularyChunk`, with which a
   * chunk fits into the processor's caches
   */
  chunk?: number;
}

/**
 * Negative log-likelihood of each token in nats: logits [N, V], labels [N] int64 → [N]. It is 0, without gradient,
 * where the label is negative (by convention −100: not a supervised token). A label ≥ V fails the run.
 *
 * When the logits come straight from an output head (`linear(x, w)`), this function computes the head itself, and the
 * logits are computed only if another node uses them. The gradient never forms softmax − onehot: with p the softmax and
 * g the incoming gradient, dx = g·(p·w − w[label]) and dw = pᵀ(g·x) − scatter(g·x by label). A trained head is computed
 * in chunks of tokens.
 *
 * A frozen head is computed in chunks of `chunk` rows of w, each with all tokens, in one pass over w. A chunk is still
 * in the cache for its second matrix product, and a quantised chunk is dequantised only once. The partial softmaxes are
 * combined as in the online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867).
 *
 * With `smoothing` ε the target is 1 − ε on the label plus ε spread evenly over the vocabulary, as in transformers'
 * LabelSmoother: (1 − ε)·nll + ε·mean(−log p).
 * @throws SwarmError GRAPH_SHAPE, GRAPH_SMOOTHING when ε is not in [0, 1)
 */
export function crossEntropy(
  logits: Tensor,
  labels: Tensor,
  { smoothing = 0, chunk }: CrossEntropyOptions = {},
): Tensor {
  requireDType('crossEntropy', logits, 'float32');
  requireDType('crossEntropy', labels, 'int64');
  if (logits.shape.length !== 2 || labels.shape.length !== 1 || labels.shape[0] !== logits.shape[0]) {
    throw shapeError('crossEntropy', 'it needs logits [N, V] and labels [N]', logits.shape, labels.shape);
  }
  if (!(smoothing >= 0 && smoothing < 1)) {
    throw graphError(
      'GRAPH_SMOOTHING',
      `label smoothing is ${smoothing}; it must be at least 0 and below 1`,
      {
        smoothing,
      },
    );
  }
  const [x, w] = outputHead(logits);
  if (x && w) {
    const rows = chunk ?? vocabularyChunk(x.shape[0]!, x.shape[1]!);
    const loss = isFrozen(w) ? frozenHeadCrossEntropy(x, w, labels, rows) : headCrossEntropy(x, w, labels);
    return smoothing === 0 ? loss : add(loss, scale(headSmoothing(x, w, labels), smoothing));
  }
  const plain = softmaxCrossEntropy(logits, labels);
  return smoothing === 0 ? plain.loss : smoothed(logits, labels, plain, smoothing);
}

/**
 * Loss that smoothing adds, per unit of ε. Because −log p is logsumexp − logit,
 * (1 − ε)·nll + ε·mean(−log p) = nll + ε·(logit[label] − mean logit). With logits x·wᵀ the bracket is
 * x·(w[label] − mean row of w), which needs no pass over tokens × vocabulary.
 */
function headSmoothing(x: Tensor, w: Tensor, labels: Tensor): Tensor {
  const vocabulary = w.shape[0]!;
  // The mean is computed as a matrix product, which never dequantises all of a quantised weight at once.
  const even = w.graph.constant([1, vocabulary], new Float32Array(vocabulary).fill(1 / vocabulary));
  const aside = subtract(gatherRows(w, clampLabels(labels)), matmul(even, w));
  return multiply(reduceSum(multiply(x, aside), 1), supervised(labels));
}

/**
 * Returns the smoothed loss of logits that were not made by `linear`. The cheaper method of `headSmoothing` needs
 * `linear`, so this method passes over all logits, tokens × vocabulary. The gradient of the logits is
 * g·((1 − ε)(p − onehot) + ε(p − 1/V)).
 */
function smoothed(
  logits: Tensor,
  labels: Tensor,
  { loss, probabilities }: { loss: Tensor; probabilities: Tensor },
  smoothing: number,
): Tensor {
  const [tokens, vocabulary] = logits.shape as readonly [number, number];
  const { graph } = logits;
  const targets = clampLabels(labels);
  const ones = graph.constant([tokens, 1], new Float32Array(tokens).fill(1));
  const excess = graph.apply('crossEntropyGradient', [probabilities, targets, ones], {}, [logits], null)[0]!;
  // `excess` is p − onehot, so p − excess is onehot. The product with the logits picks the logit of each
  // label.
  const picked = reduceSum(multiply(logits, subtract(probabilities, excess)), 1);
  const more = multiply(subtract(picked, reduceMean(logits, 1)), supervised(labels));
  return withGradient(add(loss, scale(more, smoothing)), [logits], (backward) =>
    backward.add(1, () => {
      const even = graph.constant([], Float32Array.of(1 / vocabulary));
      const slope = add(scale(excess, 1 - smoothing), scale(subtract(probabilities, even), smoothing));
      const g = multiply(backward.gradient, supervised(labels));
      return multiply(slope, reshape(g, [tokens, 1]));
    }),
  );
}

/** Returns the operands x and w if the logits are the result of `linear(x, w)`; otherwise an empty list. */
function outputHead(logits: Tensor): readonly Tensor[] {
  const node = logits.node;
  if (node?.operation !== 'gemm' || node.inputs.length !== 2) return [];
  // Equal operations are one tensor, so linear(x, w) returns `logits` itself if and only if it made the logits.
  const [x, w] = node.inputs;
  const depth = x!.shape[1];
  return w!.shape[1] === depth && linear(x!, w!) === logits ? node.inputs : [];
}

/**
 * Returns the cross-entropy loss of each token, and the probabilities p = softmax(logits). The gradient of the logits
 * is g·(p − onehot(label)), where g is the gradient of the token's loss, or 0 for a token without a label.
 */
function softmaxCrossEntropy(logits: Tensor, labels: Tensor): { loss: Tensor; probabilities: Tensor } {
  const outputs = [{ shape: labels.shape }, { shape: logits.shape }];
  const [loss, probabilities]: readonly Tensor[] = logits.graph.apply(
    'softmaxCrossEntropy',
    [logits, labels],
    {},
    outputs,
    (backward) =>
      backward.add(0, () => {
        const g = multiply(backward.gradient, supervised(labels));
        const inputs = [probabilities!, clampLabels(labels), reshape(g, [labels.shape[0]!, 1])];
        return logits.graph.apply('crossEntropyGradient', inputs, {}, [{ shape: logits.shape }], null)[0]!;
      }),
  );
  return { loss: loss!, probabilities: probabilities! };
}

function headCrossEntropy(x: Tensor, w: Tensor, labels: Tensor): Tensor {
  const tokens = x.shape[0]!;
  const rowsAtOnce = Math.max(1, Math.floor(LOGITS_CHUNK_BYTES / (4 * w.shape[0]!)));
  const rows = Math.ceil(tokens / Math.ceil(tokens / rowsAtOnce));
  const targets = clampLabels(labels);
  const chunks = Array.from({ length: Math.ceil(tokens / rows) }, (_, index) => {
    const part = (tensor: Tensor) => slice(tensor, 0, index * rows, Math.min(tokens, (index + 1) * rows));
    const { loss, probabilities } = softmaxCrossEntropy(linear(part(x), w), part(labels));
    // The gradient of x without the factor `g`, which only the backward pass knows. It is computed in the
    // forward pass, so that a chunk's probabilities need not be kept. In a graph without gradients, this is
    // dead code that is never computed.
    const slope = addmm(gatherRows(w, part(targets)), probabilities, w, { beta: -1 });
    return { part, loss, probabilities, slope };
  });
  const loss = concat(
    chunks.map((chunk) => chunk.loss),
    0,
  );
  return withGradient(loss, [x, w], (backward) => {
    const g = reshape(multiply(backward.gradient, supervised(labels)), [tokens, 1]);
    backward.add(1, () => {
      const parts = chunks.map(({ part, loss, slope }) => {
        // Adds the loss times zero, so that the gradient of a chunk depends on its loss. An engine that orders nodes by
        // their dependencies then computes loss and slope of one chunk, and frees its logits, before the next chunk.
        const zero = scale(reshape(loss, [loss.shape[0]!, 1]), 0);
        return multiply(slope, add(part(g), zero));
      });
      return concat(parts, 0);
    });
    backward.contribute(2, (sum) => {
      const weighted = multiply(x, g);
      let total = sum;
      for (const { part, probabilities } of chunks) {
        total = addmm(total, probabilities, part(weighted), { transposeA: true });
      }
      return scatterAddRows(total!, targets, negate(weighted));
    });
  });
}

function isFrozen(w: Tensor): boolean {
  return w.node === null && ![...w.graph.inputs.values()].includes(w);
}

/**
 * The number of rows of a chunk is a multiple of this number. Each chunk therefore starts at a page boundary of the
 * weight file (4,096 bytes), whatever the size of a row.
 */
const CHUNK_STEP = 4096;
/** Approximate limit in bytes of a tile of logits, and of the chunk of the head from which the tile is computed. */
const TILE_BYTES = 16 * 2 ** 20;
/**
 * Maximum number of tokens that are multiplied with the head at a time. The head is dequantised once for each
 * such group of tokens. With this many tokens, dequantising costs little compared with the matrix products.
 */
const TILE_TOKENS = 2048;

/**
 * Returns how many rows of an output head [.., width] are multiplied at once with the hidden states of `tokens`
 * tokens.
 */
export function vocabularyChunk(tokens: number, width: number): number {
  const widest = Math.max(width, Math.min(tokens, TILE_TOKENS));
  return CHUNK_STEP * Math.max(1, Math.floor(TILE_BYTES / 4 / widest / CHUNK_STEP));
}

/**
 * Computes the softmax p, the log-sum-exp s, and p·w for each chunk of the rows of the head w. Two chunks are combined
 * with the weights e^(s₁ − s) and e^(s₂ − s), where s is the log-sum-exp of both chunks. No weight exceeds 1, so small
 * probabilities keep their precision.
 */
function frozenHeadCrossEntropy(x: Tensor, w: Tensor, labels: Tensor, chunk: number): Tensor {
  const [tokens] = x.shape as readonly [number, number];
  const vocabulary = w.shape[0]!;
  const rows = Math.ceil(tokens / Math.ceil(tokens / TILE_TOKENS));
  const targets = clampLabels(labels);
  const chunks = Array.from({ length: Math.ceil(tokens / rows) }, (_, index) => {
    const part = (tensor: Tensor) => slice(tensor, 0, index * rows, Math.min(tokens, (index + 1) * rows));
    let soFar: PartialSoftmax | null = null;
    for (let start = 0; start < vocabulary; start += chunk) {
      const rowsOfW = slice(w, 0, start, Math.min(vocabulary, start + chunk));
      const logits = linear(part(x), rowsOfW);
      const probabilities = softmax(logits);
      const own = { logSum: logSumExp(logits, probabilities), mean: matmul(probabilities, rowsOfW) };
      soFar = soFar === null ? own : combine(soFar, own);
    }
    const { logSum, mean } = soFar!;
    const target = gatherRows(w, part(targets));
    const excess = subtract(reshape(logSum, [logSum.shape[0]!]), reduceSum(multiply(part(x), target), 1));
    return { loss: multiply(excess, supervised(part(labels))), slope: subtract(mean, target) };
  });
  const whole = (parts: readonly Tensor[]) => (parts.length === 1 ? parts[0]! : concat(parts, 0));
  const loss = whole(chunks.map((chunk) => chunk.loss));
  return withGradient(loss, [x], (backward) =>
    backward.add(1, () => {
      const g = multiply(backward.gradient, supervised(labels));
      return multiply(whole(chunks.map(({ slope }) => slope)), reshape(g, [tokens, 1]));
    }),
  );
}

/** Results of the softmax over a part of the vocabulary, for N tokens. */
interface PartialSoftmax {
  /** Log-sum-exp of the logits, [N, 1]. */
  readonly logSum: Tensor;
  /** For each token, the mean of the rows of w, weighted with the probabilities of the softmax. [N, C] */
  readonly mean: Tensor;
}

function combine(a: PartialSoftmax, b: PartialSoftmax): PartialSoftmax {
  const both = concat([a.logSum, b.logSum], 1);
  const logSum = logSumExp(both, softmax(both));
  // The shares could be slices of `softmax(both)`. But onnxruntime fuses slices of a value into one node and computes
  // the operands of this node first, so the probabilities of all chunks would exist at one time.
  const share = (of: PartialSoftmax) => multiply(of.mean, exp(subtract(of.logSum, logSum)));
  return { logSum, mean: add(share(a), share(b)) };
}

/**
 * Computes log Σ e^x over each row: x [N, V] → [N, 1].
 * @param probabilities softmax of x, [N, V]. With it, the ONNX engines need no sum, because the result equals
 *   max(x) − log max(softmax)
 */
function logSumExp(x: Tensor, probabilities: Tensor): Tensor {
  const outputs = [{ shape: [x.shape[0]!, 1] }];
  return x.graph.apply('logSumExp', [x, probabilities], {}, outputs, null)[0]!;
}

/** Returns 1 where a token has a label, else 0. [N] int64 → [N] */
function supervised(labels: Tensor): Tensor {
  return labels.graph.apply('supervised', [labels], {}, [{ shape: labels.shape }], null)[0]!;
}

/** Returns labels as valid row numbers. A missing label becomes 0, and callers multiply its contribution by 0. */
function clampLabels(labels: Tensor): Tensor {
  return labels.graph.apply('clampLabels', [labels], {}, [{ shape: labels.shape, dtype: 'int64' }], null)[0]!;
}
