/**
 * Compares an update with a repetition of its training. The coordinator repeats the training without the author's
 * moments and error feedback, so an honest update is never equal to the repetition. Decision 049 has the measurements.
 */
import type { SparseUpdate } from './codec.ts';
import { updateError } from './errors.ts';

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
