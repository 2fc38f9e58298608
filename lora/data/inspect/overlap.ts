/**
 * Finds held-out samples that also occur in the training data. They are equal to a training sample, or share sequences
 * of 13 consecutive supervised tokens with the training data. The held-out data is read twice: before the training data
 * and after it.
 */
import type { Origin } from '../../../protocol/api/job-creation.ts';
import type { Rendered } from '../render/rendered.ts';
import type { DuplicateCounter } from './duplicates.ts';
import { type Hash, HashTable, hashOf } from './hash-table.ts';

/**
 * Length of the compared sequences, in tokens. The contamination check of GPT-3 (2020) compares sequences of 13 words.
 */
export const OVERLAP_TOKENS = 13;
/** A held-out sample counts as known if the training data contains at least this share of its 13-token sequences. */
const KNOWN_SHARE = 0.5;
/**
 * Maximum number of held-out samples whose places in the data files are listed: the samples with the largest shares of
 * sequences that also occur in the training data.
 */
const MAX_NAMED = 5;

export interface KnownSample {
  origin: Origin;
  /** Share of the sample's sequences of OVERLAP_TOKENS tokens that occur in the training data, from 0 to 1. */
  share: number;
}

export interface OverlapCount {
  /** Number of held-out samples. */
  heldOut: number;
  /**
   * Number of held-out samples with the same tokens and mask as a training sample. This number is an estimate
   * if the count of duplicates is an estimate.
   */
  equal: number;
  /** Number of samples that share at least one sequence of OVERLAP_TOKENS tokens with the training data. */
  touched: number;
  /**
   * Number of samples that share at least half of their sequences of OVERLAP_TOKENS tokens with the training
   * data.
   */
  known: number;
  /**
   * Number of samples that are long enough to compare, because they have 13 or more consecutive supervised
   * tokens.
   */
  withSequences: number;
  /** 1 if every sequence was looked up. n if only one sequence in n was looked up. */
  sampledOneIn: number;
  named: KnownSample[];
}

/**
 * Counts the overlap. Call `addHeldOut` for every held-out sample, then `addTraining` for every training sample, then
 * `judge` for every held-out sample again. Only supervised tokens are compared, because system prompts and templates
 * repeat by design.
 */
export class OverlapCounter {
  readonly #sequences = new HashTable();
  readonly #training: Pick<DuplicateCounter, 'weight'>;
  readonly #count: OverlapCount = {
    heldOut: 0,
    equal: 0,
    touched: 0,
    known: 0,
    withSequences: 0,
    sampledOneIn: 1,
    named: [],
  };

  /** @param training must contain every training sample before `judge` is called */
  constructor({ training }: { training: Pick<DuplicateCounter, 'weight'> }) {
    this.#training = training;
  }

  addHeldOut(rendered: Rendered): void {
    for (const sequence of trainedSequences(rendered)) this.#sequences.set(sequence, 0);
  }

  addTraining(rendered: Rendered): void {
    if (this.#sequences.size === 0) return;
    for (const sequence of trainedSequences(rendered))
      if (this.#sequences.get(sequence) === 0) this.#sequences.set(sequence, 1);
  }

  judge(origin: Origin, rendered: Rendered): void {
    const count = this.#count;
    count.heldOut++;
    count.equal += this.#training.weight(rendered);
    let all = 0;
    let found = 0;
    for (const sequence of trainedSequences(rendered)) {
      if (!this.#sequences.samples(sequence)) continue;
      all++;
      if (this.#sequences.get(sequence) === 1) found++;
    }
    if (all === 0) return;
    count.withSequences++;
    if (found === 0) return;
    count.touched++;
    const share = found / all;
    if (share >= KNOWN_SHARE) count.known++;
    count.named.push({ origin, share });
    count.named.sort((a, b) => b.share - a.share);
    count.named.length = Math.min(MAX_NAMED, count.named.length);
  }

  result(): OverlapCount {
    return { ...this.#count, sampledOneIn: this.#sequences.scale };
  }
}

/** Yields the hash of every sequence of 13 consecutive supervised tokens. */
function* trainedSequences({ ids, trained }: Rendered): Generator<Hash> {
  let length = 0;
  for (let i = 0; i < ids.length; i++) {
    length = trained[i] === 1 ? length + 1 : 0;
    if (length >= OVERLAP_TOKENS) yield hashOf(ids.slice(i + 1 - OVERLAP_TOKENS, i + 1));
  }
}
