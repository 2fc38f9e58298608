import { graphError } from '../errors.ts';
import { addContribution } from '../gradients.ts';
import { requireDType, type Tensor } from '../graph.ts';
import { shapeError } from '../shapes.ts';
import { withGradient } from './custom-gradient.ts';
import { add, exp, multiply, negate, scale, subtract } from './elementwise.ts';
import { gatherRows, scatterAddRows } from './embedding.ts';
import { concat, reshape, slice } from './layout.ts';
import { softmax } from './normalization.ts';
import { addmm, linear, matmul } from './products.ts';
import { reduceMean, reduceSum } from './reduce.ts';

/**
 * Logits that exist at one time, in bytes. Tokens × vocabulary is the largest matrix of a training step by far;
 * in chunks of this size it stays small, and products still have a hundred rows at 150k words: with half as many they are a fifth
 * slower.
 */
export const LOGITS_CHUNK_BYTES = 64 * 2 ** 20;

/**
 * Negative log-likelihood of each token in nats: logits [N, V], labels [N] int64 → [N]; 0 (and no gradient)
 * where the label is negative (−100 by convention: not trained on). A label ≥ V fails the run.
 *
 * When the logits come straight from an output head (`linear(x, w)`), the head is computed here, one that is trained in chunks
 * of tokens, and its gradient never forms softmax − onehot: with p the softmax and g the incoming gradient,
 * dx = g·(p·w − w[label]) and dw = pᵀ(g·x) − scatter(g·x by label). The logits themselves are then only
 * computed if something else uses them.
 *
 * A frozen head is multiplied `words` of its rows at a time, with all tokens: the piece is still in the cache for its second
 * product, and one that is kept in fewer bits is made float32 only once. It is one pass over w, whose partial sums are put
 * together as in attention in tiles (Milakov and Gimelshein 2018, arXiv 1805.02867).
 *
 * With `smoothing` ε the target is 1 − ε on the label plus ε spread evenly over the vocabulary, as transformers'
 * LabelSmoother: (1 − ε)·nll + ε·mean(−log p).
 * @throws SwarmError GRAPH_SHAPE, GRAPH_SMOOTHING when ε is not in [0, 1)
 */
export function crossEntropy(
  logits: Tensor,
  labels: Tensor,
  {
    smoothing = 0,
    words,
  }: { smoothing?: number /** Of a piece. @default what caches hold */; words?: number } = {},
): Tensor {
  requireDType('crossEntropy', logits, 'float32');
  requireDType('crossEntropy', labels, 'int64');
  if (logits.shape.length !== 2 || labels.shape.length !== 1 || labels.shape[0] !== logits.shape[0]) {
    throw shapeError('crossEntropy', 'logits [N, V] and labels [N] are needed', logits.shape, labels.shape);
  }
  if (!(smoothing >= 0 && smoothing < 1)) {
    throw graphError('GRAPH_SMOOTHING', `label smoothing is ${smoothing}; it must be from 0 to below 1`, {
      smoothing,
    });
  }
  const [x, w] = outputHead(logits);
  if (x && w) {
    const pieces = words ?? vocabularyChunk(x.shape[0]!, x.shape[1]!);
    const loss = isFrozen(w) ? headInPieces(x, w, labels, pieces) : headCrossEntropy(x, w, labels);
    return smoothing === 0 ? loss : add(loss, scale(headSmoothing(x, w, labels), smoothing));
  }
  const plain = softmaxCrossEntropy(logits, labels);
  return smoothing === 0 ? plain.loss : smoothed(logits, labels, plain, smoothing);
}

/**
 * What smoothing adds per unit of ε. Because −log p of every word is logsumexp − logit,
 * (1 − ε)·nll + ε·mean(−log p) = nll + ε·(logit[label] − mean logit), and with logits x·wᵀ the bracket is
 * x·(w[label] − mean row of w): no pass over tokens × vocabulary.
 */
function headSmoothing(x: Tensor, w: Tensor, labels: Tensor): Tensor {
  const vocabulary = w.shape[0]!;
  // As a product: one with a weight of fewer bits never makes all of it float32.
  const even = w.graph.constant([1, vocabulary], new Float32Array(vocabulary).fill(1 / vocabulary));
  const aside = subtract(gatherRows(w, clampLabels(labels)), matmul(even, w));
  return multiply(reduceSum(multiply(x, aside), 1), supervised(labels));
}

/** The same for logits of any origin, in passes over them: d logits = g·((1 − ε)(p − onehot) + ε(p − 1/V)). */
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
  // onehot = p − (p − onehot)
  const picked = reduceSum(multiply(logits, subtract(probabilities, excess)), 1);
  const more = multiply(subtract(picked, reduceMean(logits, 1)), supervised(labels));
  return withGradient(add(loss, scale(more, smoothing)), [logits], (backward) =>
    addContribution(backward, 1, () => {
      const even = graph.constant([], Float32Array.of(1 / vocabulary));
      const slope = add(scale(excess, 1 - smoothing), scale(subtract(probabilities, even), smoothing));
      const g = multiply(backward.gradient, supervised(labels));
      return multiply(slope, reshape(g, [tokens, 1]));
    }),
  );
}

/** The operands of `linear(x, w)` if that is what made the logits. */
function outputHead(logits: Tensor): readonly Tensor[] {
  const node = logits.node;
  if (node?.operation !== 'gemm' || node.inputs.length !== 2) return [];
  // Equal operations are one tensor: this is the same one exactly if it was made by linear(x, w).
  const [x, w] = node.inputs;
  const depth = x!.shape[1];
  return w!.shape[1] === depth && linear(x!, w!) === logits ? node.inputs : [];
}

/** p = softmax(logits); d logits = g·(p − onehot(label)), g being 0 where there is no label. */
function softmaxCrossEntropy(logits: Tensor, labels: Tensor): { loss: Tensor; probabilities: Tensor } {
  const outputs = [{ shape: labels.shape }, { shape: logits.shape }];
  const [loss, probabilities]: readonly Tensor[] = logits.graph.apply(
    'softmaxCrossEntropy',
    [logits, labels],
    {},
    outputs,
    (backward) =>
      addContribution(backward, 0, () => {
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
    // dx but for g, which depends on nothing that comes later: made here, a chunk's probabilities need not be held until
    // the backward pass. Where no gradient is asked for, nothing reads it and it is not computed.
    const slope = addmm(gatherRows(w, part(targets)), probabilities, w, { beta: -1 });
    return { part, loss, probabilities, slope };
  });
  const loss = concat(
    chunks.map((chunk) => chunk.loss),
    0,
  );
  return withGradient(loss, [x, w], (backward) => {
    const g = reshape(multiply(backward.gradient, supervised(labels)), [tokens, 1]);
    addContribution(backward, 1, () => {
      const parts = chunks.map(({ part, loss, slope }) => {
        // Adds nothing, but an executor that orders nodes by what they need makes the loss of a chunk before the slopes
        // of the next one, and lets go of what both are made of.
        const nothing = scale(reshape(loss, [loss.shape[0]!, 1]), 0);
        return multiply(slope, add(part(g), nothing));
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

/** Words of a piece for `vocabularyChunk`: so many rows of whole bytes end at a page of a file, however wide they are. */
const PIECE_STEP = 4096;
/** Of the logits of a tile, and of its piece of the head. */
const TILE_BYTES = 16 * 2 ** 20;
/** For so many it pays to make the head float32 once more. */
const TILE_TOKENS = 2048;

/** How many rows [.., width] of a head to multiply at a time with the hidden states of `tokens`. */
export function vocabularyChunk(tokens: number, width: number): number {
  const widest = Math.max(width, Math.min(tokens, TILE_TOKENS));
  return PIECE_STEP * Math.max(1, Math.floor(TILE_BYTES / 4 / widest / PIECE_STEP));
}

/**
 * Of every piece: p its softmax, s the logarithm of its sum of exponentials, and p·w. Two of them together have the weights
 * e^(s₁ − s) and e^(s₂ − s), s being that of both. So nothing is rescaled by more than 1, and small probabilities keep their digits.
 */
function headInPieces(x: Tensor, w: Tensor, labels: Tensor, words: number): Tensor {
  const [tokens] = x.shape as readonly [number, number];
  const vocabulary = w.shape[0]!;
  const rows = Math.ceil(tokens / Math.ceil(tokens / TILE_TOKENS));
  const targets = clampLabels(labels);
  const chunks = Array.from({ length: Math.ceil(tokens / rows) }, (_, index) => {
    const part = (tensor: Tensor) => slice(tensor, 0, index * rows, Math.min(tokens, (index + 1) * rows));
    let soFar: Softmaxed | null = null;
    for (let start = 0; start < vocabulary; start += words) {
      const piece = slice(w, 0, start, Math.min(vocabulary, start + words));
      const logits = linear(part(x), piece);
      const probabilities = softmax(logits);
      const own = { logSum: logSumExp(logits, probabilities), mean: matmul(probabilities, piece) };
      soFar = soFar === null ? own : together(soFar, own);
    }
    const { logSum, mean } = soFar!;
    const aim = gatherRows(w, part(targets));
    const excess = subtract(reshape(logSum, [logSum.shape[0]!]), reduceSum(multiply(part(x), aim), 1));
    return { loss: multiply(excess, supervised(part(labels))), slope: subtract(mean, aim) };
  });
  const whole = (parts: readonly Tensor[]) => (parts.length === 1 ? parts[0]! : concat(parts, 0));
  const loss = whole(chunks.map((chunk) => chunk.loss));
  return withGradient(loss, [x], (backward) =>
    addContribution(backward, 1, () => {
      const g = multiply(backward.gradient, supervised(labels));
      return multiply(whole(chunks.map(({ slope }) => slope)), reshape(g, [tokens, 1]));
    }),
  );
}

interface Softmaxed {
  /** [N, 1] */
  readonly logSum: Tensor;
  /** [N, C] */
  readonly mean: Tensor;
}

function together(a: Softmaxed, b: Softmaxed): Softmaxed {
  const both = concat([a.logSum, b.logSum], 1);
  const logSum = logSumExp(both, softmax(both));
  // Not columns of that softmax: onnxruntime makes one node of slices of a value, and begins with what that one needs, so
  // that the probabilities of all pieces were there at a time.
  const share = (of: Softmaxed) => multiply(of.mean, exp(subtract(of.logSum, logSum)));
  return { logSum, mean: add(share(a), share(b)) };
}

/** log Σ e^x over each row: x [N, V] and its softmax → [N, 1]. */
function logSumExp(x: Tensor, probabilities: Tensor): Tensor {
  const outputs = [{ shape: [x.shape[0]!, 1] }];
  return x.graph.apply('logSumExp', [x, probabilities], {}, outputs, null)[0]!;
}

/** 1 where a token has a label, 0 where it has none. [N] int64 → [N] */
function supervised(labels: Tensor): Tensor {
  return labels.graph.apply('supervised', [labels], {}, [{ shape: labels.shape }], null)[0]!;
}

/** Labels as valid row numbers: missing ones become 0 (their contribution is multiplied by 0). */
function clampLabels(labels: Tensor): Tensor {
  return labels.graph.apply('clampLabels', [labels], {}, [{ shape: labels.shape, dtype: 'int64' }], null)[0]!;
}
