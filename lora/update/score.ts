import { updateError } from './errors.ts';
import type { SparseUpdate } from './format.ts';

/**
 * Two scores of an update that show, without training again, whether its author did honest work. The first is the
 * decrease of the loss on rows that were assigned to no node. The second is the additional decrease on the rows that
 * were assigned to the author. Both scores are first-order estimates, so each costs a backward pass over a few rows and
 * an inner product. The idea follows Zeno's descent score (Xie et al., arXiv 1805.10032) and Gauntlet's comparison of
 * assigned with random data (Lidin et al., arXiv 2505.21684).
 */

/**
 * Gradient of the mean loss at the checkpoint that a round starts from, in nats per token; one tensor per entry of the
 * update's layout.
 */
export type LossGradient = readonly Float32Array[];

export interface UpdateScore {
  /**
   * Estimated decrease of the loss on rows that were assigned to no node, if the update is applied; in nats per token.
   */
  readonly effect: number;
  /** Standard error of `effect` over the batches of random rows; 0 for one batch. */
  readonly effectError: number;
  /** Estimated decrease of the loss on the author's rows, minus `effect`; in nats per token. */
  readonly gain: number;
}

/**
 * Computes the inner product of a gradient and an update, in float64. An update is the adapter before minus the adapter
 * after, so the product is the first-order decrease of the loss.
 * @param scale factor per tensor, as `medianNormClip` returns it. @default 1
 * @throws UPDATE_SHAPE if gradient and update differ in their number of tensors
 */
export function lossDecrease(
  gradient: LossGradient,
  update: SparseUpdate,
  scale?: ArrayLike<number>,
): number {
  if (gradient.length !== update.tensors.length) {
    throw updateError(
      'UPDATE_SHAPE',
      `the gradient has ${gradient.length} tensors and the update ${update.tensors.length}`,
      { gradient: gradient.length, update: update.tensors.length },
    );
  }
  let total = 0;
  for (const [tensor, { indices, values }] of update.tensors.entries()) {
    const slope = gradient[tensor]!;
    let sum = 0;
    if (indices === null) for (let i = 0; i < values.length; i++) sum += slope[i]! * values[i]!;
    else for (let i = 0; i < values.length; i++) sum += slope[indices[i]!]! * values[i]!;
    total += sum * (scale ? scale[tensor]! : 1);
  }
  return total;
}

/**
 * Returns the adapter after a whole update was applied to it.
 * @param scale factor per tensor, as `medianNormClip` returns it
 */
export function withUpdate(
  adapter: readonly Float32Array[],
  update: SparseUpdate,
  scale: ArrayLike<number>,
): Float32Array[] {
  return adapter.map((values, tensor) => {
    const next = values.slice();
    const { indices, values: sent } = update.tensors[tensor]!;
    const factor = scale[tensor]!;
    for (let i = 0; i < sent.length; i++) next[indices ? indices[i]! : i]! -= Math.fround(factor * sent[i]!);
    return next;
  });
}

/**
 * Computes the effect of an update, and its standard error.
 * @param effects effect of the update on each batch of random rows; at least one
 */
export function effectOf(effects: readonly number[]): Pick<UpdateScore, 'effect' | 'effectError'> {
  const effect = effects.reduce((sum, value) => sum + value, 0) / effects.length;
  const squares = effects.reduce((sum, value) => sum + (value - effect) ** 2, 0);
  const effectError = effects.length > 1 ? Math.sqrt(squares / (effects.length - 1) / effects.length) : 0;
  return { effect, effectError };
}

/** Returns whether an update raises the loss: its effect is below zero by more than two standard errors. */
export function isHarmful({ effect, effectError }: Pick<UpdateScore, 'effect' | 'effectError'>): boolean {
  return effect + 2 * effectError < 0;
}

/**
 * Compares an update with a repetition of its training. The coordinator repeats the training without the author's
 * moments and error feedback, so an honest update is never equal to the repetition. Decision 049 has the measurements.
 */

/** An adapter: one tensor per entry of the update's layout. */
type Adapter = readonly Float32Array[];

/**
 * Adapters of an audit that repeats a node's training: before the steps, after the first half of the steps, and after
 * all steps.
 */
export interface RepeatedSteps {
  readonly before: Adapter;
  readonly middle: Adapter;
  readonly after: Adapter;
}

export interface AuditFigures {
  /**
   * Cosine of the angle between the update and the change that the repeated training made, over the values that the
   * update contains; from −1 to 1.
   */
  readonly closeness: number;
  /**
   * How much of the second half of the steps the update contains, divided by how much of the first half it contains. An
   * author who stopped after half of the steps has a balance near 0. Both amounts are coefficients of a least-squares
   * fit of the update by the changes of the two halves.
   */
  readonly balance: number;
}

/**
 * Compares an update with a repetition of its training. The changes of the adapter in the first and in the second
 * half of the repeated steps are compared separately.
 * @throws UPDATE_SHAPE if an adapter and the update differ in their number of tensors
 */
export function auditFigures(update: SparseUpdate, { before, middle, after }: RepeatedSteps): AuditFigures {
  for (const { length } of [before, middle, after]) {
    if (length === update.tensors.length) continue;
    const message = `the repetition has ${length} tensors and the update ${update.tensors.length}`;
    throw updateError('UPDATE_SHAPE', message, { repetition: length, update: update.tensors.length });
  }
  // Inner products of the update u, the change a that the first half of the repeated steps makes, and the change b that
  // the second half makes. A change is the adapter before the steps minus the adapter after them.
  let [uu, ua, ub, aa, ab, bb] = [0, 0, 0, 0, 0, 0];
  for (const [tensor, { indices, values }] of update.tensors.entries()) {
    const start = before[tensor]!;
    const half = middle[tensor]!;
    const end = after[tensor]!;
    for (let i = 0; i < values.length; i++) {
      const at = indices ? indices[i]! : i;
      const u = values[i]!;
      const a = start[at]! - half[at]!;
      const b = half[at]! - end[at]!;
      uu += u * u;
      ua += u * a;
      ub += u * b;
      aa += a * a;
      ab += a * b;
      bb += b * b;
    }
  }
  const norms = Math.sqrt(uu * (aa + 2 * ab + bb));
  const partOfFirst = ua * bb - ub * ab;
  const partOfSecond = ub * aa - ua * ab;
  return {
    closeness: norms > 0 ? (ua + ub) / norms : 0,
    balance: partOfFirst > 0 ? Math.max(0, partOfSecond / partOfFirst) : partOfSecond > 0 ? Infinity : 0,
  };
}
