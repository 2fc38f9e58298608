export { ATTENTION_TILE, type AttentionOptions, attention } from './ops/attention.ts';
export {
  type CachedAttentionOptions,
  cachedAttention,
  cachedHeadSize,
} from './ops/cached-attention.ts';
export { crossEntropy, LOGITS_CHUNK_BYTES, vocabularyChunk } from './ops/cross-entropy.ts';
export { detach } from './ops/custom-gradient.ts';
export {
  add,
  divide,
  exp,
  geluTanh,
  log,
  multiply,
  negate,
  scale,
  sigmoid,
  silu,
  sqrt,
  subtract,
} from './ops/elementwise.ts';
export { gatherRows, scatterAddRows, zeros } from './ops/embedding.ts';
export { concat, pad, reshape, slice, transpose } from './ops/layout.ts';
export { causalMask, MASKED } from './ops/mask.ts';
export { layerNorm, reduceMean, rmsNorm, softmax } from './ops/normalization.ts';
export { addmm, linear, matmul, type ProductOptions } from './ops/products.ts';
export { dropout, randomSeed, SEED_INPUT, uniform } from './ops/random.ts';
export { type Axes, broadcastTo, reduceSum } from './ops/reduce.ts';
export { rotaryEmbedding } from './ops/rotary.ts';
