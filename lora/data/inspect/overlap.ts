/**
 * Finds held-out samples that also occur in the training data. They are equal to a training sample, or share n-grams of
 * 13 tokens with the training data. The code calls such an n-gram a run. The held-out data is read twice, before the
 * training data and after it.
 */
import type { Origin } from '../examples.ts';
import type { Rendered } from '../render/rendered.ts';
import type { DuplicateCounter } from './duplicates.ts';
import { type Hash, HashTable, hashOf } from './hash-table.ts';

/** Length of the n-grams, in tokens. The contamination check of GPT-3 (2020) uses n-grams of 13 words. */
export const RUN_TOKENS = 13;
/** A held-out sample counts as known if at least this share of its n-grams is in the training data. */
const KNOWN_SHARE = 0.5;
/** Maximum number of samples listed with their places, those with the largest share first. */
const MAX_NAMED = 5;

export interface KnownSample {
  origin: Origin;
  /** Share of the sample's n-grams that are in the training data. */
  share: number;
}

export interface OverlapCount {
  /** Number of held-out samples. */
  heldOut: number;
  /** Samples with the same tokens and mask as a training sample. An estimate if the count of duplicates is an estimate. */
  equal: number;
  /** Samples that have at least one n-gram in common with the trained tokens of the training data. */
  touched: number;
  /** Samples with at least half of their n-grams in the training data. */
  known: number;
  /** Samples that have at least one n-gram, because 13 or more consecutive tokens are trained. */
  withRuns: number;
  /** 1: every n-gram was looked up. n: only one n-gram in n was looked up. */
  sampledOneIn: number;
  named: KnownSample[];
}

/**
 * Counts the overlap. Call `addHeldOut` for every held-out sample, then `addTraining` for every training sample, then
 * `judge` for every held-out sample again. Only trained tokens are compared, because system prompts and templates
 * repeat by design.
 */
export class OverlapCounter {
  readonly #runs = new HashTable();
  readonly #training: Pick<DuplicateCounter, 'weight'>;
  readonly #count: OverlapCount = {
    heldOut: 0,
    equal: 0,
    touched: 0,
    known: 0,
    withRuns: 0,
    sampledOneIn: 1,
    named: [],
  };

  /** @param training must contain every training sample before `judge` is called */
  constructor({ training }: { training: Pick<DuplicateCounter, 'weight'> }) {
    this.#training = training;
  }

  addHeldOut(rendered: Rendered): void {
    for (const run of trainedRuns(rendered)) this.#runs.set(run, 0);
  }

  addTraining(rendered: Rendered): void {
    if (this.#runs.size === 0) return;
    for (const run of trainedRuns(rendered)) if (this.#runs.get(run) === 0) this.#runs.set(run, 1);
  }

  judge(origin: Origin, rendered: Rendered): void {
    const count = this.#count;
    count.heldOut++;
    count.equal += this.#training.weight(rendered);
    let all = 0;
    let found = 0;
    for (const run of trainedRuns(rendered)) {
      if (!this.#runs.samples(run)) continue;
      all++;
      if (this.#runs.get(run) === 1) found++;
    }
    if (all === 0) return;
    count.withRuns++;
    if (found === 0) return;
    count.touched++;
    const share = found / all;
    if (share >= KNOWN_SHARE) count.known++;
    count.named.push({ origin, share });
    count.named.sort((a, b) => b.share - a.share);
    count.named.length = Math.min(MAX_NAMED, count.named.length);
  }

  result(): OverlapCount {
    return { ...this.#count, sampledOneIn: this.#runs.scale };
  }
}

/** Yields the hash of every n-gram of trained tokens. */
function* trainedRuns({ ids, trained }: Rendered): Generator<Hash> {
  let length = 0;
  for (let i = 0; i < ids.length; i++) {
    length = trained[i] === 1 ? length + 1 : 0;
    if (length >= RUN_TOKENS) yield hashOf(ids.slice(i + 1 - RUN_TOKENS, i + 1));
  }
}
