import type { Shape } from './shapes.ts';

type None = Readonly<Record<string, never>>;

/**
 * Every primitive operation with its static attributes. An engine implements all of them. The builders in ops/ document
 * what each operation computes, and hold its gradient rule.
 */
export interface OperationAttributes {
  add: None;
  subtract: None;
  multiply: None;
  divide: None;
  negate: None;
  exp: None;
  log: None;
  sqrt: None;
  sigmoid: None;
  silu: None;
  geluTanh: None;
  broadcast: { readonly shape: Shape };
  sum: { readonly axes: readonly number[]; readonly keepDims: boolean };
  reshape: { readonly shape: Shape };
  transpose: { readonly permutation: readonly number[] };
  slice: { readonly axis: number; readonly start: number; readonly end: number };
  pad: { readonly axis: number; readonly before: number; readonly after: number };
  concat: { readonly axis: number };
  gemm: {
    readonly transposeA: boolean;
    readonly transposeB: boolean;
    readonly alpha: number;
    readonly beta: number;
    /** Whether operands and partial sums are in float16, on engines that support it. The result is float32. */
    readonly float16?: boolean;
  };
  batchedMatmul: { readonly transposeA: boolean; readonly transposeB: boolean; readonly alpha: number };
  softmax: None;
  logSumExp: None;
  rmsNorm: { readonly epsilon: number };
  layerNorm: { readonly epsilon: number };
  causalMask: { readonly window: number | null };
  rotary: None;
  cachedAttention: {
    readonly heads: number;
    readonly keyValueHeads: number;
    readonly window: number | null;
    readonly scale: number;
    /** Whether one operand holds queries, keys and values, side by side in its columns. */
    readonly isJoint: boolean;
  };
  zeros: { readonly shape: Shape };
  gatherRows: None;
  scatterAddRows: None;
  softmaxCrossEntropy: None;
  crossEntropyGradient: None;
  supervised: None;
  clampLabels: None;
  uniform: { readonly shape: Shape; readonly stream: number };
  keepMask: { readonly rate: number };
  customGradient: None;
}

export type Operation = keyof OperationAttributes;
