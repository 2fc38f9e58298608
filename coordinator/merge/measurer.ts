import { withDeadline } from '../../common/time/deadline.ts';
import { decodeAdapter } from '../../lora/adapter/codec.ts';
import type { Row } from '../../lora/data/row.ts';
import { placesInRound, readRows } from '../../lora/data/shards/round-rows.ts';
import { type LossGradient, lossDecrease, withUpdate } from '../../lora/update/score.ts';
import { ADAPTER_BYTES } from '../../protocol/limits.ts';
import {
  type CurrentCheckpoint,
  EVALUATION_TIMEOUT_MS,
  type EvaluateOptions,
  type RunContext,
} from '../context.ts';
import type { StoredUpdate } from '../store/store.ts';
import { loadUpdate } from './arithmetic.ts';
import { meanLoss } from './comparison.ts';

/** An update that has values other than zero. */
export interface Sent {
  /** Index of this update in the list of the updates of the merge. */
  readonly index: number;
  readonly update: StoredUpdate;
  /** Clipping factor of each tensor. */
  readonly scale: Float32Array;
}

/** Rows of a job, named by their positions in the shuffled data of a round. */
export interface Batch {
  readonly round: number;
  readonly positions: readonly number[];
}

/**
 * Inner products of an update with gradients. Each estimates how much the update lowers the loss, in nats per token.
 */
export interface Products {
  /** Inner products of the update with the gradients on random rows, one for each batch. */
  readonly random: readonly number[];
  /** Inner product of the update with the gradient on rows of its author's interval; null without such rows. */
  readonly own: number | null;
}

/**
 * Computes the losses and inner products from which a round's updates are scored. Each inner product multiplies an
 * update with a gradient at the checkpoint from which the round started.
 */
export interface Measurer {
  /** Adds a batch of random rows, and computes its gradient for later calls of `products`. */
  addRandom(batch: Batch): Promise<void>;
  products(sent: Sent, own: Batch | null): Promise<Products>;
  /**
   * Returns the mean loss on a batch, in nats per token.
   * @param sent the update to apply to the checkpoint before the loss is computed; null for none
   */
  loss(sent: Sent | null, batch: Batch): Promise<number>;
}

/** A measurer that uses the coordinator's own validator. */
export class OwnMeasurer implements Measurer {
  readonly #parent: CurrentCheckpoint;
  readonly #context: RunContext;
  readonly #options: Omit<EvaluateOptions, 'signal'>;
  readonly #random: LossGradient[] = [];
  #adapter: readonly Float32Array[] | null = null;

  constructor(
    parent: CurrentCheckpoint,
    { context, onFallback, onProgress }: { context: RunContext } & Omit<EvaluateOptions, 'signal'>,
  ) {
    this.#parent = parent;
    this.#context = context;
    this.#options = { onFallback, onProgress };
  }

  async addRandom(batch: Batch): Promise<void> {
    this.#random.push(await this.#gradient(batch));
  }

  async products(sent: Sent, own: Batch | null): Promise<Products> {
    const gradient = own && (await this.#gradient(own));
    const update = await this.#load(sent);
    const decrease = (one: LossGradient): number => lossDecrease(one, update, sent.scale);
    return { random: this.#random.map(decrease), own: gradient && decrease(gradient) };
  }

  async loss(sent: Sent | null, batch: Batch): Promise<number> {
    const parent = await this.#parentAdapter();
    const adapter = sent === null ? parent : withUpdate(parent, await this.#load(sent), sent.scale);
    const rows = await this.#read(batch);
    const losses = await this.#compute('the losses for the scores of updates', (validator, job, options) =>
      validator.losses(job, adapter, rows, options),
    );
    return meanLoss(losses) ?? 0;
  }

  async #gradient(batch: Batch): Promise<LossGradient> {
    const adapter = await this.#parentAdapter();
    const rows = await this.#read(batch);
    return this.#compute('the gradient for the scores of updates', (validator, job, options) =>
      validator.gradient(job, adapter, rows, options),
    );
  }

  #compute<T>(
    what: string,
    work: (
      validator: RunContext['deps']['validator'],
      job: Pick<RunContext, 'job' | 'manifest'>,
      options: EvaluateOptions,
    ) => Promise<T>,
  ): Promise<T> {
    const { job, manifest, deps, signal } = this.#context;
    return withDeadline({ clock: deps.clock, ms: EVALUATION_TIMEOUT_MS, signal, what }, (inner) =>
      work(deps.validator, { job, manifest }, { ...this.#options, signal: inner }),
    );
  }

  async #parentAdapter(): Promise<readonly Float32Array[]> {
    const { layout, deps } = this.#context;
    const { digest } = this.#parent.checkpoint.adapter;
    this.#adapter ??= decodeAdapter(await deps.blobs.get(digest, { maxBytes: ADAPTER_BYTES }), layout);
    return this.#adapter;
  }

  #load({ update }: Sent): ReturnType<typeof loadUpdate> {
    const { layout, deps, signal } = this.#context;
    return loadUpdate(update, { layout, blobs: deps.blobs, signal });
  }

  #read({ round, positions }: Batch): Promise<Row[]> {
    const { job, manifest, deps, signal } = this.#context;
    const key = { job, round, parent: this.#parent.digest };
    return readRows(manifest.data, placesInRound(manifest.data, key, positions), {
      read: ({ digest, size }) => deps.blobs.get(digest, { maxBytes: size }),
      signal,
    });
  }
}
