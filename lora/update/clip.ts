import type { SparseUpdate } from './codec.ts';
import { updateError } from './errors.ts';
import { weightedMedian } from './weights.ts';

/** Computes the Euclidean norm of each tensor of an update, in float64, summed in the order of the entries. */
export function updateNorms(update: SparseUpdate): Float64Array {
  return Float64Array.from(update.tensors, ({ values }) => {
    let sum = 0;
    for (let entry = 0; entry < values.length; entry++) sum += values[entry]! * values[entry]!;
    return Math.sqrt(sum);
  });
}

/**
 * Computes factors that scale every tensor of every update down to at most the median norm of that tensor in
 * the round. Peers with less than half of the weight can therefore not raise the median, and so cannot raise
 * the influence of any update. The factors are per tensor, because A and B of LoRA differ in scale. The
 * median is weighted, and taken over the updates that sent a value of the tensor. A node that trains only a
 * part of the adapter therefore does not affect the median of the other tensors.
 * @param norms `updateNorms` of each update
 * @param weights weight of each update in the median. If all senders of a tensor have weight 0, they count
 *   equally. @default 1
 * @returns one factor per tensor for each update, from 0 to 1, rounded to float32; `Merge.add` takes them as
 *   `scale`
 * @throws UPDATE_SHAPE when the updates differ in their number of tensors
 */
export function medianNormClip(
  norms: readonly Float64Array[],
  weights: readonly number[] = norms.map(() => 1),
): Float32Array[] {
  const tensors = norms[0]?.length ?? 0;
  if (norms.some(({ length }) => length !== tensors)) {
    throw updateError('UPDATE_SHAPE', 'the updates differ in their number of tensors', {
      lengths: norms.map(({ length }) => length),
    });
  }
  const medians = Float64Array.from({ length: tensors }, (_, tensor) => {
    const sent = norms.flatMap((norm, i) =>
      norm[tensor]! > 0 ? [{ norm: norm[tensor]!, weight: weights[i]! }] : [],
    );
    const isWeighted = sent.some(({ weight }) => weight > 0);
    return weightedMedian(
      sent.map(({ norm }) => norm),
      sent.map(({ weight }) => (isWeighted ? weight : 1)),
    );
  });
  return norms.map((norm) =>
    Float32Array.from(norm, (value, tensor) => (value > medians[tensor]! ? medians[tensor]! / value : 1)),
  );
}
