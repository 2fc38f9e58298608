import type { Head } from '../../protocol/messages.ts';
import type { RpcRequest } from '../../protocol/requests/rpc.ts';
import { requestJoin } from '../contact/requests.ts';
import { nodeError } from '../errors.ts';
import { ScoreService } from '../evaluation/score-service.ts';
import type { NodeEvent } from '../machine/state.ts';
import type { Work } from '../machine/work.ts';
import { checkLimits, prepare } from '../phases/join.ts';
import type { Download, HeldAdapter } from '../phases/port.ts';
import { sync } from '../phases/sync.ts';
import { train } from '../phases/train.ts';
import { buildUpdate } from '../phases/updates.ts';
import type { TrainedRound } from '../trainer/trainer.ts';
import type { JobContext, ReadyJob } from './context.ts';

/**
 * Does a node's work in one job. Keeps the node's current adapter, and the result of a trained round until its update
 * is built. Each phase of the work is a method, which resolves with the event that tells the state machine that the
 * phase has ended.
 */
export class JobWorker {
  readonly context: JobContext;
  /** Progress in the round that is being trained. Between rounds, this is the progress in the last round. */
  progress: { step: number; steps: number; tokensPerSecond: number };
  download: Download | null = null;
  /** Whether the job fits the limits of the machine's owner, together with the node's other jobs. */
  fits = false;
  #ready: ReadyJob | null = null;
  #held: HeldAdapter | null = null;
  #trained: TrainedRound | null = null;
  #scores: ScoreService | null = null;

  constructor(context: Omit<JobContext, 'onDownload'>) {
    const onDownload = (download: Download | null): void => {
      this.download = download;
    };
    this.context = { ...context, onDownload };
    const { tokensPerSecond } = context.deps.store.job(context.job);
    this.progress = { step: 0, steps: 0, tokensPerSecond };
  }

  /** Whether a round has been trained, but its update has not been built yet. */
  get hasResult(): boolean {
    return this.#trained !== null;
  }

  /** The context of the prepared job. Read it only after `prepare` has ended. */
  get ready(): ReadyJob {
    return this.#ready!;
  }

  async prepare(
    { head, delivered }: { head: Head | null; delivered: number | null },
    signal: AbortSignal,
  ): Promise<NodeEvent> {
    const { context } = this;
    const { trainer, store, log } = context.deps;
    const { engine } = trainer;
    this.fits = false;
    checkLimits(context);
    this.fits = true;
    this.#ready = { ...context, layout: await prepare(context, head, signal) };
    // The choice of the engine may depend on the base. The coordinator shows the engine to people, so the node joins
    // again to report a changed engine.
    if (trainer.engine !== engine) await requestJoin(context.options, context.deps, context, signal);
    if (context.deps.scoreTrainer !== undefined && context.role !== 'operator') {
      log.warn({ role: context.role }, 'offer-to-score-not-taken');
    }
    const known = store.history(context.job);
    const { pending } = known;
    // If the coordinator has an update that the node's database does not contain, the database was lost, or
    // an older copy was restored. The node must not train the round of that update again. It would sign a
    // second, different update, for which the coordinator bans nodes.
    const isForgotten = delivered !== null && delivered > known.lastRound;
    if (isForgotten) log.warn({ round: delivered, lastRound: known.lastRound }, 'update-forgotten');
    const lastRound = isForgotten ? delivered : known.lastRound;
    log.info({ name: context.manifest.name, lastRound, pending: pending.length }, 'job-joined');
    return { type: 'joined', head, history: { pending, lastRound } };
  }

  /** Compares the job with changed limits of the owner. Returns true if the job fitted before and no longer fits. */
  noLongerFits(): boolean {
    if (!this.fits) return false;
    try {
      checkLimits(this.context);
    } catch (error) {
      // The next attempt to join fails with the same error, which then becomes the reason that the node shows.
      this.context.deps.log.debug({ error }, 'job-no-longer-fits');
      this.fits = false;
    }
    return !this.fits;
  }

  async sync(head: Head, signal: AbortSignal): Promise<NodeEvent> {
    const held = await sync(this.ready, this.#held, head, signal);
    if (!signal.aborted) this.#held = held;
    return { type: 'synced', adapter: held.digest };
  }

  /** @param dueInMs time in which the round should be trained, in milliseconds */
  async train(work: Work, dueInMs: number, signal: AbortSignal): Promise<NodeEvent> {
    this.progress = { ...this.progress, step: 0, steps: work.steps };
    this.context.deps.onTraining?.();
    this.#trained = await train(this.ready, work, this.#held!, {
      signal,
      dueInMs,
      onProgress: ({ step, steps, tokensPerSecond }) => {
        if (!signal.aborted) this.progress = { step, steps, tokensPerSecond };
      },
    });
    const { steps, tokens, seconds, lossFirst, lossLast } = this.#trained.result;
    const { log } = this.context.deps;
    log.info({ round: work.round, steps, tokens, seconds, lossFirst, lossLast }, 'round-trained');
    return { type: 'trained', work };
  }

  async buildUpdate(work: Work, signal: AbortSignal): Promise<NodeEvent> {
    const { log, meter } = this.context.deps;
    const trained = this.#trained!;
    const { update, bytes } = await buildUpdate(this.ready, work, this.#held!, trained, signal);
    this.#trained = null;
    log.info({ round: work.round, update, bytes }, 'update-built');
    meter.roundTrained({ ...trained.result, updateBytes: bytes });
    return { type: 'update-built', work, update };
  }

  /**
   * Computes the numbers from which the coordinator makes the scores of an update.
   * @throws SwarmError NOT_SCORING, and the errors of `ScoreService`
   */
  async measure(request: RpcRequest<'measure'>, signal: AbortSignal): Promise<number[]> {
    const { scoreTrainer } = this.context.deps;
    if (this.#ready === null || scoreTrainer === undefined) {
      throw nodeError('NOT_SCORING', 'this node is not ready, or does not offer to compute scores');
    }
    this.#scores ??= new ScoreService({ trainer: scoreTrainer });
    return this.#scores.measure(this.#ready, this.#held, request, signal);
  }

  /** Returns the context in which the node evaluates checkpoints of the job. @throws SwarmError NOT_EVALUATING */
  toEvaluate(): ReadyJob {
    if (this.#ready !== null) return this.#ready;
    throw nodeError('NOT_EVALUATING', 'this node is not ready');
  }

  /** Frees the result of an aborted round. */
  discardResult(): void {
    this.#trained = null;
  }
}
