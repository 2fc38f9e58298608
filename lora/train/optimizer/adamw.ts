/** AdamW: Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101). */

import { trainError } from '../errors.ts';
import type { LossScaleState } from './loss-scale.ts';

export interface AdamWOptions {
  /**
   * For each tensor: its number of values, whether it has weight decay, and its factor of the learning rate (default
   * 1).
   */
  tensors: readonly { size: number; decay: boolean; rate?: number }[];
  betas: readonly [number, number];
  /** @default 1e-8 */
  epsilon?: number;
  weightDecay: number;
}

/** State from which an optimiser continues bit for bit. All lists have the order and sizes of the tensors. */
export interface AdamWState {
  /** Number of optimiser steps made. */
  step: number;
  /** First moments. */
  m: Float32Array[];
  /** Second moments. */
  v: Float32Array[];
  /** State of the loss scale; absent if gradients are computed in float32. */
  lossScale?: LossScaleState;
}

export interface StepOptions {
  learningRate: number;
  /** Factor for the gradients, applied first: 1/tokens turns sums into means. */
  gradientScale: number;
  /** Maximum L2 norm of the scaled gradient over all tensors. 0 turns clipping off. */
  clipNorm: number;
}

export class AdamW {
  #options: Required<AdamWOptions>;
  #current: AdamWState;

  constructor(options: AdamWOptions) {
    this.#options = withEpsilon(options);
    const zeros = () => options.tensors.map(({ size }) => new Float32Array(size));
    this.#current = { step: 0, m: zeros(), v: zeros() };
  }

  /** Starts again at step 0 with other options for tensors of the same sizes. All moments become zero. */
  restart(options: AdamWOptions): void {
    this.#options = withEpsilon(options);
    const { m, v } = this.#current;
    for (const moment of [...m, ...v]) moment.fill(0);
    this.#current = { step: 0, m, v };
  }

  get steps(): number {
    return this.#current.step;
  }

  /**
   * Makes a step: updates `parameters` in place. Computes in float64, stores parameters and state in float32.
   * @param gradients null for a tensor that is not trained: it keeps its values and moments
   * @returns the L2 norm of the scaled gradient before clipping
   * @throws SwarmError GRADIENT_NOT_FINITE, without a change of parameters or state
   */
  step(
    parameters: readonly Float32Array[],
    gradients: readonly (Float32Array | null)[],
    options: StepOptions,
  ): number {
    const { betas, epsilon, weightDecay, tensors } = this.#options;
    const norm = gradientNorm(gradients) * Math.abs(options.gradientScale);
    if (!Number.isFinite(norm)) {
      throw trainError(
        'GRADIENT_NOT_FINITE',
        `the gradient norm of optimiser step ${this.#current.step} is ${norm}`,
        { step: this.#current.step, norm: String(norm) },
      );
    }
    const clip = options.clipNorm > 0 ? Math.min(1, options.clipNorm / (norm + 1e-6)) : 1;
    const scale = options.gradientScale * clip;
    const step = ++this.#current.step;
    const [beta1, beta2] = betas;
    const correction = 1 / Math.sqrt(1 - beta2 ** step);
    for (const [index, { decay, rate: factor = 1 }] of tensors.entries()) {
      const g = gradients[index]!;
      if (g === null) continue;
      const learningRate = options.learningRate * factor;
      const rate = learningRate / (1 - beta1 ** step);
      const keep = decay ? 1 - learningRate * weightDecay : 1;
      const p = parameters[index]!;
      const m = this.#current.m[index]!;
      const v = this.#current.v[index]!;
      for (let i = 0; i < p.length; i++) {
        const gradient = g[i]! * scale;
        const first = beta1 * m[i]! + (1 - beta1) * gradient;
        const second = beta2 * v[i]! + (1 - beta2) * gradient * gradient;
        m[i] = first;
        v[i] = second;
        p[i] = p[i]! * keep - (rate * first) / (Math.sqrt(second) * correction + epsilon);
      }
    }
    return norm;
  }

  /** Returns a copy of the optimiser's state. Later steps do not change the copy. */
  exportState(): AdamWState {
    const copy = (tensors: Float32Array[]) => tensors.map((tensor) => tensor.slice());
    return { step: this.#current.step, m: copy(this.#current.m), v: copy(this.#current.v) };
  }

  /** @throws SwarmError OPTIMIZER_STATE if the moments do not match the tensors, or the step is not an integer ≥ 0 */
  importState(state: AdamWState): void {
    const { tensors } = this.#options;
    const fits = (list: Float32Array[]) =>
      list.length === tensors.length && list.every((tensor, i) => tensor.length === tensors[i]!.size);
    if (!Number.isSafeInteger(state.step) || state.step < 0 || !fits(state.m) || !fits(state.v)) {
      throw trainError('OPTIMIZER_STATE', 'the optimiser state does not fit the trained tensors', {
        step: state.step,
        tensors: state.m.length,
        expected: tensors.length,
      });
    }
    // Copies the moments into the existing tensors. With new tensors, they would take memory twice until the next
    // garbage collection.
    const { m, v } = this.#current;
    for (const [i, tensor] of m.entries()) tensor.set(state.m[i]!);
    for (const [i, tensor] of v.entries()) tensor.set(state.v[i]!);
    this.#current = { step: state.step, m, v };
  }
}

function withEpsilon(options: AdamWOptions): Required<AdamWOptions> {
  return { epsilon: 1e-8, ...options };
}

function gradientNorm(gradients: readonly (Float32Array | null)[]): number {
  let sum = 0;
  for (const gradient of gradients) {
    if (gradient !== null) for (let i = 0; i < gradient.length; i++) sum += gradient[i]! ** 2;
  }
  return Math.sqrt(sum);
}
