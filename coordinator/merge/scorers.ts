/**
 * Lets a scorer (a node of the operator) compute gradients and losses when the coordinator is too slow (see
 * decision 052).
 */
import { withDeadline } from '../../common/time/deadline.ts';
import { RPC_TIMEOUT_MS } from '../../protocol/limits.ts';
import type { RpcRequest } from '../../protocol/requests/rpc.ts';
import type { CurrentCheckpoint, RunContext } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import type { Batch, Measurer, Products, Sent } from './measurer.ts';

/** Work of a scorer: figures for the scores of updates, or evaluations of checkpoints on tasks. */
export type ScorerWork = 'scores' | 'tasks';

/** Number of rounds in which a scorer that has not answered is not asked again for the same kind of work. */
const ROUNDS_AFTER_SILENCE = 8;
/**
 * Maximum difference between a figure of a scorer and the coordinator's own figure, divided by `scaleOf`. The figures
 * may differ because devices, engines and base bits round differently.
 */
const TOLERANCE = 0.1;

/** The scorers of a job: nodes that offer to compute for the coordinator. */
export class Scorers {
  readonly #isReady: (peer: string) => boolean;
  /** The scorers, with the first round in which each of them may be asked for each kind of work. */
  readonly #resumeAt = new Map<string, Readonly<Record<ScorerWork, number>>>();

  /** @param deps `isReady`: whether a peer is present and has the role `operator` */
  constructor(deps: { isReady: (peer: string) => boolean }) {
    this.#isReady = deps.isReady;
  }

  /** Notes whether a node that joins offers to be a scorer. */
  note(peer: string, offers: boolean): void {
    if (!offers) this.#resumeAt.delete(peer);
    else if (!this.#resumeAt.has(peer)) this.#resumeAt.set(peer, { scores: 0, tasks: 0 });
  }

  /** Returns the scorer to ask for a kind of work in a round; null if there is none. */
  choose(round: number, work: ScorerWork): string | null {
    for (const [peer, resumeAt] of this.#resumeAt) {
      if (round >= resumeAt[work] && this.#isReady(peer)) return peer;
    }
    return null;
  }

  /** Notes that a scorer did not answer in time. */
  noteSilence(peer: string, round: number, work: ScorerWork): void {
    const resumeAt = this.#resumeAt.get(peer);
    if (resumeAt) this.#resumeAt.set(peer, { ...resumeAt, [work]: round + ROUNDS_AFTER_SILENCE });
  }

  /**
   * Notes that a figure of a scorer was wrong. The coordinator does not ask this scorer again before its next restart.
   */
  noteWrong(peer: string): void {
    this.#resumeAt.set(peer, { scores: Infinity, tasks: Infinity });
  }
}

/** Asks a scorer for the gradients and losses from which scores are made. A request may take up to RPC_TIMEOUT_MS. */
export class RemoteMeasurer implements Measurer {
  readonly #peer: string;
  readonly #parent: CurrentCheckpoint;
  readonly #context: RunContext;
  readonly #random: Batch[] = [];
  /** The answers of the scorer, for the spot check in `check`. */
  readonly #products: { sent: Sent; own: Batch | null; products: Products }[] = [];
  readonly #losses: { sent: Sent | null; batch: Batch; loss: number }[] = [];

  constructor(peer: string, parent: CurrentCheckpoint, deps: { context: RunContext }) {
    this.#peer = peer;
    this.#parent = parent;
    this.#context = deps.context;
  }

  async addRandom(batch: Batch): Promise<void> {
    await this.#ask('products', [batch], null);
    this.#random.push(batch);
  }

  async products(sent: Sent, own: Batch | null): Promise<Products> {
    const batches = own === null ? this.#random : [...this.#random, own];
    const figures = await this.#ask('products', batches, sent);
    const products = { random: figures.slice(0, this.#random.length), own: own && figures.at(-1)! };
    this.#products.push({ sent, own, products });
    return products;
  }

  async loss(sent: Sent | null, batch: Batch): Promise<number> {
    const [loss] = await this.#ask('losses', [batch], sent);
    this.#losses.push({ sent, batch, loss: loss! });
    return loss!;
  }

  /**
   * Computes the scorer's figures of one update again: the product of the update with the gradient of one
   * random batch, its product with the gradient of the author's rows, and its exact effect if the scorer
   * measured it. Chooses the update and the batch at random, after all answers of the scorer have arrived.
   * Holds one gradient in memory at a time, so that a coordinator can check adapters that are too large for it to
   * score.
   * @param own measurer that computes the coordinator's own figures
   * @param randomBelow returns a random integer from 0 to `limit` − 1
   * @returns the largest difference between a figure of the scorer and the coordinator's figure, divided by
   * `scaleOf`, and whether this quotient is small enough
   */
  async check(
    own: Measurer,
    randomBelow: (limit: number) => number,
  ): Promise<{ isRight: boolean; difference: number }> {
    const chosen = this.#products[randomBelow(this.#products.length)]!;
    const place = randomBelow(this.#random.length);
    const { own: authors } = await own.products(chosen.sent, chosen.own);
    const differences = [(authors ?? 0) - (chosen.products.own ?? 0)];
    const before = this.#losses.find(({ sent }) => sent === null);
    const after = this.#losses.find(({ sent }) => sent === chosen.sent);
    if (before && after) {
      const { batch } = before;
      const exact = (await own.loss(null, batch)) - (await own.loss(chosen.sent, batch));
      differences.push(exact - (before.loss - after.loss));
    }
    // Use the random batch last, because `own` keeps its gradient, and only one gradient may be in memory at a time.
    await own.addRandom(this.#random[place]!);
    const { random } = await own.products(chosen.sent, null);
    differences.push(random[0]! - chosen.products.random[place]!);
    const answers = this.#products.flatMap(({ products }) => [...products.random, products.own ?? 0]);
    const scale = scaleOf(answers, [...random, authors ?? 0]);
    const most = Math.max(...differences.map(Math.abs));
    const difference = most === 0 ? 0 : most / scale;
    return { isRight: difference <= TOLERANCE, difference };
  }

  async #ask(what: 'products' | 'losses', batches: readonly Batch[], sent: Sent | null): Promise<number[]> {
    const { job, deps, signal } = this.#context;
    const { digest: parent, checkpoint } = this.#parent;
    const request: RpcRequest<'measure'> = {
      ...{ job, parent, adapter: checkpoint.adapter.digest, what },
      batches: batches.map(({ round, positions }) => ({ round, positions: [...positions] })),
      update: sent && {
        digest: sent.update.digest,
        size: sent.update.size,
        preset: sent.update.preset,
        scale: Uint8Array.from(
          new Uint8Array(sent.scale.buffer, sent.scale.byteOffset, sent.scale.byteLength),
        ),
      },
    };
    const { clock, network } = deps;
    const deadline = { clock, ms: RPC_TIMEOUT_MS, signal, what: 'the request "measure"' };
    const { figures } = await withDeadline(deadline, (inner) =>
      network.request(this.#peer, 'measure', request, { signal: inner }),
    );
    const expected = sent === null && what === 'products' ? 0 : batches.length;
    if (figures.length === expected && figures.every(Number.isFinite)) return figures;
    const message = `node ${this.#peer} sent ${figures.length} figures, but ${expected} finite figures were requested`;
    throw coordinatorError('FIGURES_WRONG', message, { peer: this.#peer, expected });
  }
}

/**
 * Returns the scale by which the differences between a scorer's answers and the coordinator's own figures are divided.
 * The scale is the median of the answers, or the coordinator's largest figure, whichever is larger. The median keeps
 * the scorer from raising the scale with one huge answer.
 */
export function scaleOf(answers: readonly number[], own: readonly number[]): number {
  const sorted = answers.map(Math.abs).sort((a, b) => a - b);
  const median = sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
  return Math.max(median, ...own.map(Math.abs));
}
