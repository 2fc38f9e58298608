import { updateError } from './errors.ts';
import type { SparseUpdate, TensorUpdate } from './format.ts';
import { planLayout, type UpdateLayout, zeros } from './format.ts';

/**
 * Maximum number of trained tokens that count for the weight of a node, as a multiple of the median number of trained
 * tokens in the round. This limit prevents a single fast node from getting a majority of the weight.
 */
export const WEIGHT_CAP_MEDIANS = 2;

/**
 * Returns the lower median; 0 if there are no values. If there are two middle values, the lower median is the
 * smaller one. With two nodes, a node that claims a high value therefore cannot raise it.
 */
export function lowerMedian(values: ArrayLike<number>): number {
  const sorted = Float64Array.from(values).sort();
  return sorted.length === 0 ? 0 : sorted[(sorted.length - 1) >> 1]!;
}

/**
 * Returns the weighted median: the smallest value such that this value and all smaller values have at least half of the
 * total weight. Returns 0 if there are no values.
 */
export function weightedMedian(values: readonly number[], weights: readonly number[]): number {
  const order = values.map((_, i) => i).sort((a, b) => values[a]! - values[b]!);
  const half = weights.reduce((sum, weight) => sum + weight, 0) / 2;
  let reached = 0;
  for (const i of order) {
    reached += weights[i]!;
    if (reached >= half) return values[i]!;
  }
  return 0;
}

/**
 * Computes the weights of a round's updates: numbers of trained tokens, limited to twice the median, in float32.
 * @param median the median number of tokens. @default the lower median of `tokens`
 * @throws UPDATE_WEIGHT when a count is not a finite number above 0
 */
export function capWeights(tokens: readonly number[], median = lowerMedian(tokens)): number[] {
  for (const count of tokens) {
    if (Number.isFinite(count) && count > 0) continue;
    throw updateError('UPDATE_WEIGHT', `the number of tokens is ${count}; it must be finite and above 0`, {
      tokens: count,
    });
  }
  const cap = WEIGHT_CAP_MEDIANS * median;
  return tokens.map((count) => Math.fround(Math.min(count, cap)));
}

/**
 * Returns the factor for an update that started from a checkpoint τ = `rounds` rounds old: (1+τ)^−½ (Nguyen et al.,
 * "FedBuff", arXiv 2106.06639).
 * @throws UPDATE_WEIGHT when τ is not a whole number ≥ 0
 */
export function stalenessWeight(rounds: number): number {
  if (!Number.isSafeInteger(rounds) || rounds < 0) {
    throw updateError(
      'UPDATE_WEIGHT',
      `the staleness is ${rounds} rounds; it must be a whole number of at least 0`,
      {
        rounds,
      },
    );
  }
  return Math.fround(1 / Math.sqrt(1 + rounds));
}

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

/**
 * Smallest divisor of a coordinate (a value of the adapter), as a share of the round's total weight. A merge divides the
 * weighted sum of a coordinate's values by the total weight of the peers that sent a value for it. Without this minimum,
 * a peer that alone sends a coordinate could move it as far as all peers together. If the divisor were always the total
 * weight of the round, every sparse update would shrink. Decision 050 has the measurements.
 */
export const DEFAULT_DENOMINATOR_FLOOR = 0.25;

/** Settings of a merge. */
export interface MergeOptions {
  readonly layout: UpdateLayout;
  /**
   * Smallest divisor of a coordinate, as a share of the total weight (see DEFAULT_DENOMINATOR_FLOOR).
   * @default 0.25
   */
  readonly denominatorFloor?: number;
}

/** An update with its author and weight. */
export interface Contribution {
  /** Sender. Contributions are added in ascending order of peer, then round, because sums depend on the order. */
  readonly peer: string;
  /** Round of the update. A merge can contain a late update and a current update of the same peer. @default 0 */
  readonly round?: number;
  /**
   * Number of trained tokens, capped by `capWeights`, times the staleness factor. It is rounded to float32.
   */
  readonly weight: number;
  readonly update: SparseUpdate;
  /**
   * Factor per tensor from `medianNormClip`. It scales the values of the update. The weight of the update in
   * the denominator stays unscaled. @default 1
   */
  readonly scale?: ArrayLike<number>;
}

/**
 * Computes the weighted mean of updates, which are added one at a time. For each coordinate:
 *
 *     Σ wᵢ·cᵢ·vᵢ / max(Σ wᵢ over the updates that contain the coordinate, floor·Σ wᵢ over all updates)
 *
 * where update i has the weight wᵢ, the factor cᵢ (`scale`) and the value vᵢ of the coordinate. All arithmetic is in
 * float32, and the sums are in the order of `add`, so the same updates in the same order give the same bits. Memory is
 * at most two numbers per coordinate, for any number of updates.
 */
export class Merge {
  readonly #layout: UpdateLayout;
  readonly #floor: number;
  readonly #sums: Float32Array[];
  /**
   * For each tensor, the total weight of the updates that contain a coordinate. This is one number as long as every
   * update contains the whole tensor, and otherwise one number per coordinate.
   */
  readonly #weights: (number | Float32Array)[];
  #total = 0;
  #last: { peer: string; round: number } | null = null;
  #finished = false;

  /** @throws UPDATE_WEIGHT when the floor is not within 0 to 1 */
  constructor({ layout, denominatorFloor = DEFAULT_DENOMINATOR_FLOOR }: MergeOptions) {
    if (!(denominatorFloor >= 0 && denominatorFloor <= 1)) {
      const message = `denominator floor ${denominatorFloor} is not between 0 and 1`;
      throw updateError('UPDATE_WEIGHT', message, { denominatorFloor });
    }
    this.#layout = layout;
    this.#floor = Math.fround(denominatorFloor);
    this.#sums = zeros(layout);
    this.#weights = this.#sums.map(() => 0);
  }

  /**
   * Adds an update. If this throws, the merge is unchanged.
   * @throws UPDATE_WEIGHT if a weight or factor is negative or not finite; UPDATE_SHAPE, UPDATE_ORDER
   */
  add({ peer, round = 0, weight, update, scale }: Contribution): void {
    this.#checkOrder(peer, round);
    const { length } = planLayout(this.#layout).sizes;
    if (update.tensors.length !== length || (scale && scale.length !== length)) {
      throw updateError('UPDATE_SHAPE', `${peer}: the update or its factors do not have ${length} tensors`, {
        peer,
      });
    }
    const share = checkedWeight(weight, peer);
    const factors = update.tensors.map((_, tensor) =>
      Math.fround(share * checkedWeight(scale ? scale[tensor]! : 1, peer)),
    );
    this.#last = { peer, round };
    this.#total = Math.fround(this.#total + share);
    for (const [tensor, sent] of update.tensors.entries()) {
      addValues(this.#sums[tensor]!, sent, factors[tensor]!);
      this.#weights[tensor] = addWeight(this.#weights[tensor]!, this.#sums[tensor]!.length, sent, share);
    }
  }

  /** Returns the merged delta, one tensor per entry of the layout. @throws UPDATE_ORDER when called twice */
  finish(): Float32Array[] {
    if (this.#finished) throw updateError('UPDATE_ORDER', 'the merge has already finished');
    this.#finished = true;
    const least = Math.fround(this.#floor * this.#total);
    for (const [position, sums] of this.#sums.entries()) {
      const weights = this.#weights[position]!;
      for (let index = 0; index < sums.length; index++) {
        const senders = typeof weights === 'number' ? weights : weights[index]!;
        const denominator = Math.max(senders, least);
        if (denominator > 0) sums[index]! /= denominator;
      }
    }
    return this.#sums;
  }

  #checkOrder(peer: string, round: number): void {
    if (this.#finished) {
      throw updateError('UPDATE_ORDER', `${peer} was added after the merge had finished`, { peer });
    }
    const last = this.#last;
    if (last && (peer < last.peer || (peer === last.peer && round <= last.round))) {
      const message = `${peer}, round ${round}, was added after ${last.peer}, round ${last.round}; updates must be added in the order of peer and round`;
      throw updateError('UPDATE_ORDER', message, { peer, round, last });
    }
  }
}

function checkedWeight(weight: number, peer: string): number {
  const rounded = Math.fround(weight);
  if (Number.isFinite(rounded) && rounded >= 0) return rounded;
  throw updateError('UPDATE_WEIGHT', `${peer}: weight ${weight} is not a finite number of at least 0`, {
    peer,
    weight,
  });
}

function addValues(sums: Float32Array, { indices, values }: TensorUpdate, factor: number): void {
  if (indices === null) {
    for (let index = 0; index < values.length; index++) sums[index]! += Math.fround(factor * values[index]!);
  } else {
    for (let entry = 0; entry < values.length; entry++) {
      sums[indices[entry]!]! += Math.fround(factor * values[entry]!);
    }
  }
}

/**
 * Adds a sender's weight to the sums of weights. `weights` is one number while all coordinates have the same sum, else
 * one number per coordinate. Both forms give the same sums.
 */
function addWeight(
  weights: number | Float32Array,
  length: number,
  { indices }: TensorUpdate,
  share: number,
): number | Float32Array {
  if (indices === null && typeof weights === 'number') return Math.fround(weights + share);
  const each = typeof weights === 'number' ? new Float32Array(length).fill(weights) : weights;
  if (indices === null) {
    for (let index = 0; index < length; index++) each[index]! += share;
  } else {
    for (let entry = 0; entry < indices.length; entry++) each[indices[entry]!]! += share;
  }
  return each;
}
