import { isSwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import { ANSWERS_BYTES, QUESTIONS_BYTES } from '../../protocol/limits.ts';
import type { RpcRequest, RpcResponse } from '../../protocol/requests/rpc.ts';
import { obtain } from '../blobs/obtain.ts';
import { errorFields, nodeError } from '../errors.ts';
import { checkPolicy } from '../limits/policy.ts';
import type { ReadyPort } from '../phases/port.ts';
import type { QuestionAnswerer } from './answerer.ts';

/**
 * Time without a request of the coordinator after which the node ends an evaluation, in milliseconds. The coordinator
 * gives up earlier if the node does not answer.
 */
export const ABANDONED_MS = 120_000;

type Request = RpcRequest<'evaluate'>;
type State = RpcResponse<'evaluation'>;

/** An evaluation that runs, or whose answers or failure the node still reports to the coordinator. */
interface Evaluation {
  readonly request: Request;
  readonly coordinator: string;
  readonly end: AbortController;
  state: State;
  /** Time of the newest request of the coordinator, on the monotonic clock. */
  askedAt: number;
}

export interface EvaluationServiceDeps {
  /** Answers the questions; null if the node does not offer to compute for a coordinator. */
  readonly answerer: QuestionAnswerer | null;
  readonly clock: Clock;
  readonly log: Logger;
  /** Returns whether the node is paused, or trains a round of any of its jobs. */
  readonly isBusy: () => boolean;
}

/**
 * Evaluates checkpoints for coordinators, one at a time. Training comes first: a node that trains begins no evaluation,
 * and ends a running evaluation when it begins to train.
 */
export class EvaluationService {
  readonly #deps: EvaluationServiceDeps;
  #current: Evaluation | null = null;
  #running: Promise<void> = Promise.resolve();
  #isStopped = false;

  constructor(deps: EvaluationServiceDeps) {
    this.#deps = deps;
  }

  /**
   * Begins an evaluation. A repeated request has no effect while the evaluation runs or its answers are kept.
   * @throws SwarmError NOT_EVALUATING, EVALUATION_BUSY, EVALUATION_BASE_BITS, POLICY_MEMORY
   */
  start(context: ReadyPort, request: Request): void {
    const { answerer, clock, isBusy } = this.#deps;
    if (answerer === null) throw notEvaluating();
    const { coordinator } = context;
    const current = this.#current;
    if (current !== null && isSame(current.request, request) && current.state.state !== 'failed') {
      current.askedAt = clock.monotonic();
      return;
    }
    if (this.#isStopped) throw nodeError('EVALUATION_BUSY', 'this node is stopping');
    if (isBusy()) throw nodeError('EVALUATION_BUSY', 'this node is paused or trains a round');
    // A failed evaluation is kept only so that its coordinator can ask for the reason. It may be replaced by any other
    // evaluation.
    const isInUse = current !== null && current.state.state !== 'failed';
    if (isInUse && current.coordinator !== coordinator) {
      throw nodeError('EVALUATION_BUSY', 'this node evaluates a checkpoint of another coordinator');
    }
    this.#checkSettings(context, request.baseBits);
    this.#end('the coordinator asked for another evaluation');
    const evaluation: Evaluation = {
      request,
      coordinator,
      end: new AbortController(),
      state: { state: 'running', done: 0 },
      askedAt: clock.monotonic(),
    };
    this.#current = evaluation;
    const before = this.#running;
    this.#running = (async () => {
      await before;
      await this.#run(evaluation, context, answerer);
    })();
    context.deps.log.info({ job: context.job, adapter: request.adapter.digest }, 'evaluation-started');
  }

  /** Returns the state of an evaluation. @throws SwarmError NOT_EVALUATING if the node has no such evaluation */
  state(coordinator: string, wanted: RpcRequest<'evaluation'>): State {
    const current = this.#current;
    if (current === null || current.coordinator !== coordinator) throw notEvaluating();
    const { job, adapter, questions } = current.request;
    const isIt =
      job === wanted.job && adapter.digest === wanted.adapter && questions.digest === wanted.questions;
    if (!isIt) throw notEvaluating();
    current.askedAt = this.#deps.clock.monotonic();
    return current.state;
  }

  /** Returns whether a blob contains answers for this peer. Only the coordinator of the evaluation may fetch them. */
  mayFetch(peer: string, digest: string): boolean {
    const current = this.#current;
    if (current?.coordinator !== peer || current.state.state !== 'done') return false;
    if (current.state.answers.digest !== digest) return false;
    current.askedAt = this.#deps.clock.monotonic();
    return true;
  }

  /** Ends the evaluation if the node has become busy. */
  yieldToWork(): void {
    if (this.#deps.isBusy() && this.#current?.state.state === 'running') {
      this.#end('the node was paused or began to train a round');
    }
  }

  /** Ends the evaluation, and refuses new ones. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#end('the node has stopped');
    await this.#running;
  }

  #checkSettings({ manifest, options, deps }: ReadyPort, baseBits: number): void {
    const { policy, trainers } = options;
    const own = trainers?.baseBits ?? 32;
    if (baseBits !== own) {
      throw nodeError(
        'EVALUATION_BASE_BITS',
        `the coordinator evaluates with ${baseBits} base bits, but this node computes with ${own}`,
        { wanted: baseBits, own },
      );
    }
    const others = deps.siblings().flatMap(({ fittingManifest }) => fittingManifest ?? []);
    checkPolicy(manifest, policy, { trainers, others, evaluates: true });
  }

  #end(reason: string): void {
    const current = this.#current;
    if (current === null) return;
    current.state = { state: 'failed', reason };
    current.end.abort(nodeError('EVALUATION_ENDED', reason));
  }

  /** Answers the questions, and keeps the answers until the coordinator no longer asks for them. Throws nothing. */
  async #run(evaluation: Evaluation, context: ReadyPort, answerer: QuestionAnswerer): Promise<void> {
    const { clock, log } = this.#deps;
    const { signal } = evaluation.end;
    const ended = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    const watch = (): void => {
      if (signal.aborted) return;
      const left = evaluation.askedAt + ABANDONED_MS - clock.monotonic();
      if (left > 0) cancel = clock.after(left, watch);
      else
        evaluation.end.abort(
          nodeError('EVALUATION_ENDED', 'the coordinator no longer asks for the evaluation'),
        );
    };
    let cancel = (): void => {};
    watch();
    try {
      await context.collector.withScope(async (scope) => {
        const bytes = await this.#answer(evaluation, context, answerer, (digest) => scope.hold(digest));
        const digest = await scope.put(bytes);
        signal.throwIfAborted();
        evaluation.state = { state: 'done', answers: { digest, size: bytes.byteLength } };
        log.info({ bytes: bytes.byteLength }, 'evaluation-done');
        await ended;
      });
    } catch (error) {
      evaluation.state = { state: 'failed', reason: reasonFor(error) };
      log.warn(errorFields(error), 'evaluation-failed');
    } finally {
      cancel();
      // A failed evaluation stays, so that the coordinator gets the reason. Abandoned answers are deleted.
      if (this.#current === evaluation && evaluation.state.state === 'done') this.#current = null;
    }
  }

  async #answer(
    evaluation: Evaluation,
    context: ReadyPort,
    answerer: QuestionAnswerer,
    hold: (digest: string) => Promise<void>,
  ): Promise<Uint8Array> {
    const { adapter, questions } = evaluation.request;
    const { signal } = evaluation.end;
    signal.throwIfAborted();
    const onProgress = (): void => {
      const { state } = evaluation;
      if (state.state === 'running') evaluation.state = { ...state, done: state.done + 1 };
    };
    for (const blob of [questions, adapter]) {
      await hold(blob.digest);
      await obtain(context, blob, { signal, onProgress });
    }
    const bytes = await context.deps.blobs.get(questions.digest, { maxBytes: QUESTIONS_BYTES });
    const { manifest } = context;
    const asked = { manifest, adapter: adapter.digest, questions: bytes };
    const answers = await answerer.answer(asked, { signal, onProgress });
    if (answers.byteLength <= ANSWERS_BYTES) return answers;
    throw nodeError(
      'EVALUATION_ENDED',
      `the answers have ${answers.byteLength} bytes, which is too large to send`,
    );
  }
}

function isSame(one: Request, other: Request): boolean {
  const keyOf = ({ job, adapter, questions, baseBits }: Request): string =>
    [job, adapter.digest, questions.digest, baseBits].join();
  return keyOf(one) === keyOf(other);
}

/**
 * Returns the reason for a failure, which the coordinator gets. For an error other than EVALUATION_ENDED, this is only its
 * code, because its message may contain paths or other facts about this machine.
 */
function reasonFor(error: unknown): string {
  if (isSwarmError(error, 'EVALUATION_ENDED')) return error.message;
  return isSwarmError(error) ? error.code : 'an unexpected error';
}

function notEvaluating() {
  return nodeError('NOT_EVALUATING', 'this node does not run this evaluation for the caller');
}
