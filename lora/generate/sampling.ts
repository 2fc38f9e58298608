import { SeededRandom } from '../data/seeded-random.ts';
import type { Sampling, TokenLogprob } from './types.ts';

/**
 * Number of buckets in which `kthWeight` counts logits. The buckets cover the values of (largest logit −
 * logit) / temperature from 0 to `RANGE`.
 */
const BUCKETS = 2048;
const RANGE = 64;

/** Chooses the tokens of one request. */
export class Sampler {
  readonly #sampling: Required<Sampling>;
  readonly #random: SeededRandom;
  readonly #seen: Set<number>;

  /** @param tokens the prompt, for the repetition penalty */
  constructor(sampling: Sampling, tokens: readonly number[]) {
    const { temperature = 0, topP = 1, topK = 0, minP = 0, repetitionPenalty = 1, seed = 0 } = sampling;
    this.#sampling = { temperature, topP, topK, minP, repetitionPenalty, seed };
    this.#random = new SeededRandom(this.#sampling.seed);
    this.#seen = new Set(this.#sampling.repetitionPenalty === 1 ? [] : tokens);
  }

  /** Returns the next token. @param logits [vocabulary]; not changed */
  next(logits: Float32Array): number {
    const { temperature, repetitionPenalty: penalty } = this.#sampling;
    const changed = penalty === 1 ? logits : penalised(logits, this.#seen, penalty);
    const id = temperature === 0 ? mostLikely(changed) : sample(changed, this.#sampling, this.#random);
    if (penalty !== 1) this.#seen.add(id);
    return id;
  }
}

function penalised(logits: Float32Array, seen: ReadonlySet<number>, penalty: number): Float32Array {
  const changed = logits.slice();
  for (const id of seen) changed[id] = changed[id]! > 0 ? changed[id]! / penalty : changed[id]! * penalty;
  return changed;
}

/** Returns the index of the largest logit; the first one if several are equal. */
export function mostLikely(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

type Cuts = Required<Pick<Sampling, 'temperature' | 'topP' | 'topK' | 'minP'>>;

/**
 * Samples a token from softmax(logits / temperature). The cuts apply in the order of transformers: top-k, then nucleus
 * sampling (Holtzman et al. 2019, arXiv 1904.09751) on what is left, then min-p (Nguyen et al. 2024, arXiv 2407.01082).
 */
export function sample(
  logits: Float32Array,
  { temperature, topP, topK, minP }: Cuts,
  random: SeededRandom,
): number {
  const largest = logits[mostLikely(logits)]!;
  const weights = new Float64Array(logits.length);
  let total = 0;
  for (let i = 0; i < weights.length; i++)
    total += weights[i] = Math.exp((logits[i]! - largest) / temperature);
  const point = random.uniform();
  if (topP === 1 && topK === 0 && minP === 0) return draw(weights.keys(), weights, point * total);

  // Sorts only tokens that can be chosen, because sorting the whole vocabulary takes longer than a step of a small model.
  // All tokens with a weight below (1 − p)·total/vocabulary together have a weight below (1 − p)·total, so none of them
  // is in the nucleus.
  const least = Math.max(
    minP,
    ((1 - topP) * total) / weights.length,
    topK === 0 ? 0 : kthWeight(logits, largest, temperature, topK),
  );
  let kept: number[] = [];
  for (let i = 0; i < weights.length; i++) if (weights[i]! >= least) kept.push(i);
  kept.sort((a, b) => weights[b]! - weights[a]! || a - b);
  if (topK > 0) kept = kept.slice(0, topK);
  const whole = topK > 0 ? sum(kept, weights) : total;
  let nucleus = 0;
  let count = 0;
  while (count < kept.length && (count === 0 || nucleus < topP * whole)) nucleus += weights[kept[count++]!]!;
  const chosen = kept.slice(0, count);
  return draw(chosen, weights, point * sum(chosen, weights));
}

/** Returns a weight slightly below the k-th largest weight, so that at least `k` tokens reach it. */
function kthWeight(logits: Float32Array, largest: number, temperature: number, k: number): number {
  const counts = new Uint32Array(BUCKETS);
  const perUnit = BUCKETS / RANGE / temperature;
  for (let i = 0; i < logits.length; i++) {
    const bucket = Math.floor((largest - logits[i]!) * perUnit);
    if (bucket < BUCKETS) counts[bucket]!++;
  }
  let found = 0;
  for (let bucket = 0; bucket < BUCKETS; bucket++) {
    found += counts[bucket]!;
    // Returns the lower bound of the next bucket instead of this one, because rounding may put a token at the edge into
    // the wrong bucket.
    if (found >= k) return Math.exp((-(bucket + 2) * RANGE) / BUCKETS);
  }
  return 0;
}

function sum(ids: readonly number[], weights: Float64Array): number {
  return ids.reduce((total, id) => total + weights[id]!, 0);
}

/** Returns the id at which the running sum of weights passes `point`. */
function draw(ids: Iterable<number>, weights: Float64Array, point: number): number {
  let left = point;
  let last = 0;
  for (const id of ids) {
    if (weights[id] === 0) continue;
    last = id;
    left -= weights[id]!;
    if (left < 0) return id;
  }
  // The loop ends without a result only if rounding makes the sum of the weights smaller than the random
  // point.
  return last;
}

/** Returns log Σ e^logit, so that a token's log-probability is its logit minus this number. */
export function logSumExp(logits: Float32Array): number {
  const largest = logits[mostLikely(logits)]!;
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += Math.exp(logits[i]! - largest);
  return largest + Math.log(total);
}

/** Returns the `count` most likely tokens, most likely first. Equally likely tokens are sorted by id. */
export function topTokens(logits: Float32Array, count: number, normaliser: number): TokenLogprob[] {
  const ids: number[] = [];
  for (let i = 0; i < logits.length && count > 0; i++) {
    const logit = logits[i]!;
    if (ids.length === count && logit <= logits[ids[count - 1]!]!) continue;
    let place = ids.length;
    while (place > 0 && logits[ids[place - 1]!]! < logit) place--;
    ids.splice(place, 0, i);
    if (ids.length > count) ids.pop();
  }
  return ids.map((id) => ({ id, logprob: logits[id]! - normaliser }));
}
