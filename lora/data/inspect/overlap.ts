/**
 * Held-out samples that the training data knows: equal ones, and ones that share long runs of tokens. The held-out
 * data is read twice, before the training data and after it.
 */
import type { Origin } from '../examples.ts';
import type { Rendered } from '../render/rendered.ts';
import type { Duplicates } from './duplicates.ts';
import { type Hash, HashTable, hashOf } from './hash-table.ts';

/** Tokens of a run; GPT-3's (2020) check for contamination uses as many words. */
export const RUN_TOKENS = 13;
/** A held-out sample with this share of its runs in the training data is called known. */
const KNOWN_SHARE = 0.5;
/** Samples that are named, the most known first. */
const NAMED = 5;

export interface KnownSample {
  origin: Origin;
  /** Of its runs, those that are in the training data. */
  share: number;
}

export interface OverlapCount {
  heldOut: number;
  /** Equal to a training sample in tokens and mask; an estimate where the duplicates are one. */
  equal: number;
  /** With at least one run of 13 trained tokens that is trained in the training data too. */
  touched: number;
  /** With at least half of its runs. */
  known: number;
  /** Samples with 13 trained tokens or more in a row: the others have no run. */
  withRuns: number;
  /** Runs are looked up for one in so many. */
  sampledOneIn: number;
  named: KnownSample[];
}

/**
 * Only trained tokens count, on both sides: system prompts and templates repeat by design. `addHeldOut` for every
 * held-out sample, `addTraining` for every training sample, then `judge` for every held-out sample again.
 */
export class Overlap {
  readonly #runs = new HashTable();
  readonly #training: Pick<Duplicates, 'weight'>;
  readonly #count: OverlapCount = {
    heldOut: 0,
    equal: 0,
    touched: 0,
    known: 0,
    withRuns: 0,
    sampledOneIn: 1,
    named: [],
  };

  /** @param training every training sample by the time of `judge` */
  constructor(_options: object, { training }: { training: Pick<Duplicates, 'weight'> }) {
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
    count.named.length = Math.min(NAMED, count.named.length);
  }

  result(): OverlapCount {
    return { ...this.#count, sampledOneIn: this.#runs.scale };
  }
}

/** Hashes of all runs of 13 tokens that are trained one after another. */
function* trainedRuns({ ids, trained }: Rendered): Generator<Hash> {
  let length = 0;
  for (let i = 0; i < ids.length; i++) {
    length = trained[i] === 1 ? length + 1 : 0;
    if (length >= RUN_TOKENS) yield hashOf(ids.slice(i + 1 - RUN_TOKENS, i + 1));
  }
}
