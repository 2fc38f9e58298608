import pLimit from 'p-limit';
import type { Row } from '../../lora/data/row.ts';
import { decodeUpdate } from '../../lora/update/index.ts';
import { type LossGradient, lossDecrease, withUpdate } from '../../lora/update/score.ts';
import { MEASURED_BATCHES } from '../../protocol/limits.ts';
import type { RpcRequest } from '../../protocol/requests/rpc.ts';
import { obtain } from '../blobs/obtain.ts';
import { nodeError } from '../errors.ts';
import type { HeldAdapter, ReadyPort } from '../phases/port.ts';
import { rowsAt } from '../phases/round-rows.ts';
import type { ScoreTrainer } from '../trainer/trainer.ts';

type Request = RpcRequest<'measure'>;
type Update = NonNullable<Request['update']>;

/**
 * Computes losses and inner products for a coordinator whose machine is too slow. The coordinator computes the scores of
 * updates from these numbers. Works on one request at a time.
 */
export class ScoreService {
  readonly #oneAtATime = pLimit(1);
  /**
   * Cached gradients of the loss at the adapter of the newest request. The key is the batch. The least recently used
   * gradient is the first. The cache helps because most requests contain the same four batches of random rows.
   */
  readonly #gradients = new Map<string, LossGradient>();
  #adapter = '';
  readonly #trainer: ScoreTrainer;

  constructor(deps: { trainer: ScoreTrainer }) {
    this.#trainer = deps.trainer;
  }

  /**
   * Computes one number for each batch of the request: a loss, or the decrease of the loss by the update.
   * @param held the adapter that the node holds
   * @throws SwarmError NOT_SCORING if the node holds another adapter, WRONG_SCALE, UPDATE_*, BLOB_*, and errors of the
   *   trainer
   */
  measure(
    context: ReadyPort,
    held: HeldAdapter | null,
    request: Request,
    signal: AbortSignal,
  ): Promise<number[]> {
    return this.#oneAtATime(async () => {
      signal.throwIfAborted();
      if (held?.digest !== request.adapter || held.checkpoint !== request.parent) {
        throw nodeError('NOT_SCORING', `this node does not hold the adapter ${request.adapter}`);
      }
      if (this.#adapter !== held.digest) this.#gradients.clear();
      this.#adapter = held.digest;
      const { update } = request;
      const sent = update && (await this.#load(context, update, signal));
      const figures: number[] = [];
      for (const batch of request.batches) {
        const read = (): Promise<Row[]> => rowsAt(context, { ...batch, parent: request.parent }, signal);
        if (request.what === 'losses') {
          const adapter = sent ? withUpdate(held.tensors, sent.update, sent.scale) : held.tensors;
          const losses = await this.#trainer.losses(adapter, await read(), { signal });
          const tokens = losses.reduce((sum, row) => sum + row.tokens, 0);
          figures.push(losses.reduce((sum, row) => sum + row.lossSum, 0) / Math.max(1, tokens));
        } else {
          const gradient = await this.#gradient(JSON.stringify(batch), async () =>
            this.#trainer.lossGradient(held.tensors, await read(), { signal }),
          );
          if (sent) figures.push(lossDecrease(gradient, sent.update, sent.scale));
        }
      }
      return figures;
    });
  }

  async #gradient(key: string, compute: () => Promise<LossGradient>): Promise<LossGradient> {
    const gradient = this.#gradients.get(key) ?? (await compute());
    this.#gradients.delete(key);
    this.#gradients.set(key, gradient);
    const [oldest] = this.#gradients.keys();
    if (this.#gradients.size > MEASURED_BATCHES) this.#gradients.delete(oldest!);
    return gradient;
  }

  /** Fetches and decodes an update. The payload is deleted from the blob store afterwards. */
  #load(context: ReadyPort, { digest, size, preset, scale }: Update, signal: AbortSignal) {
    const { deps, collector, layout } = context;
    const factors = new Float32Array(scale.slice().buffer);
    if (factors.length !== layout.length) {
      const message = `the request has factors for ${factors.length} tensors, but the adapter has ${layout.length}`;
      throw nodeError('WRONG_SCALE', message, { factors: factors.length, tensors: layout.length });
    }
    return collector.withScope(async (scope) => {
      await scope.hold(digest);
      await obtain(context, { digest, size }, { signal });
      const payload = await deps.blobs.get(digest, { maxBytes: size });
      return { update: decodeUpdate(payload, layout, preset), scale: factors };
    });
  }
}
