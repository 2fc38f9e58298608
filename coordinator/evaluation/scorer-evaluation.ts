/** Lets a scorer (a node of the operator) evaluate checkpoints in the coordinator's place (see decision 101). */

import { isSwarmError, messageOf } from '../../common/errors.ts';
import { withDeadline } from '../../common/time/deadline.ts';
import type {
  CheckedFigures,
  CheckRequest,
  FlatFigures,
  QuestionsRequest,
} from '../../lora/evaluate/process/messages.ts';
import type { SpotCheck } from '../../lora/evaluate/questions/spot-check.ts';
import type { BaseBits } from '../../lora/models/base/base-bits.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { JobRun } from '../job-run.ts';
import { askScorer } from './ask-scorer.ts';
import type { CheckpointWorkDeps } from './checkpoint-work.ts';

/** Number of documents that the coordinator evaluates itself, to check the answers of a scorer. */
export const CHECKED_DOCUMENTS = 8;
/**
 * Maximum difference between a scorer's log-probability s and the coordinator's log-probability c, as |s − c| / (1 +
 * |c|) with s and c in nats, for each number of base bits. Devices and engines round differently, and with 8 base bits,
 * some engines also round activations to 8 bits (see decision 101 for measurements).
 */
const TOLERANCE: Readonly<Record<BaseBits, number>> = { 32: 0.02, 8: 0.05, 4: 0.02 };
/**
 * Maximum fraction of the checked documents for which the scorer's generated text, or its most likely continuation,
 * differs from the coordinator's. Honest answers differ too, because rounding decides between two tokens that are
 * almost equally likely, and a generated text differs from there on.
 */
const OTHER_CHOICES_SHARE = 0.25;

/**
 * Time limit in milliseconds for making the questions, and again for checking the answers. Opening a large base takes
 * several minutes. The limit is needed because a hostile text can keep a filter or a metric busy without end.
 */
const CHECK_MS = 3_600_000;

/** Codes of errors that mean that the answers do not fit the questions. */
const MALFORMED = ['TASK_ANSWERS', 'MESSAGE_TOO_LARGE', 'MESSAGE_MALFORMED', 'MESSAGE_INVALID'];

type ProcessOptions = { signal: AbortSignal; onLog: (line: string) => void };

export interface ScorerEvaluationDeps extends CheckpointWorkDeps {
  /** Returns the encoded questions of tasks. The process of the coordinator must not be blocked meanwhile. */
  readonly questions: (request: QuestionsRequest, options: ProcessOptions) => Promise<Uint8Array>;
  /** Computes figures from answers, and checks some answers. */
  readonly check: (request: CheckRequest, options: ProcessOptions) => Promise<CheckedFigures>;
}

/** The checkpoint to evaluate, and what the coordinator needs to check the answers. */
export type EvaluationToDelegate = Omit<CheckRequest, 'questions' | 'answers' | 'draws'> & {
  readonly round: number;
};

/** Figures that follow from the answers of a scorer. */
export interface ScorerFigures {
  readonly figures: FlatFigures;
  /** Peer id of the scorer. */
  readonly scorer: string;
}

export class ScorerEvaluation {
  readonly #deps: ScorerEvaluationDeps;

  constructor(deps: ScorerEvaluationDeps) {
    this.#deps = deps;
  }

  /**
   * Lets a scorer of the job answer the questions of the tasks, computes the figures, and checks some of the answers.
   * @returns null if there is no scorer, if it is busy or fails, or if its answers are wrong. The coordinator then
   * evaluates the checkpoint itself
   * @throws the signal's reason
   */
  async evaluate(
    { context: { job }, driver, scorers }: JobRun,
    { round, ...evaluation }: EvaluationToDelegate,
    signal: AbortSignal,
  ): Promise<ScorerFigures | null> {
    const scorer = scorers.choose(driver.state.round, 'tasks');
    if (scorer === null) return null;
    const { log, clock } = this.#deps;
    const { tasks, limit } = evaluation;
    const onLog = (line: string): void => log.debug({ line }, 'tasks-output');
    const deadline = { clock, ms: CHECK_MS, signal };
    let questions: Uint8Array;
    try {
      questions = await withDeadline({ ...deadline, what: 'making the questions of the tasks' }, (inner) =>
        this.#deps.questions({ tasks, limit }, { signal: inner, onLog }),
      );
    } catch (error) {
      signal.throwIfAborted();
      // The tasks are too large to be sent, or cannot be read. The evaluation by the coordinator gives the reason.
      log.warn({ job, round, error }, 'tasks-not-sent');
      return null;
    }
    const answers = await this.#answers(job, { round, scorer, questions, evaluation }, signal);
    if (answers === null) return null;
    const draws = Array.from({ length: CHECKED_DOCUMENTS }, () => this.#draw(job));
    try {
      const request = { ...evaluation, questions: sha256(questions), answers, draws };
      const { figures, check } = await withDeadline(
        { ...deadline, what: 'the check of the answers' },
        (inner) => this.#deps.check(request, { signal: inner, onLog }),
      );
      if (isRight(check, baseBitsOf(evaluation))) return { figures, scorer };
      const { documents, difference, otherChoices } = check;
      const reason = `of ${documents} checked documents, ${otherChoices} have answers that differ from the coordinator's answers, and log-probabilities differ by up to ${(100 * difference).toFixed(1)} %`;
      this.#noteWrong(job, { round, scorer, reason });
    } catch (error) {
      signal.throwIfAborted();
      const isMalformed = isSwarmError(error) && MALFORMED.includes(error.code);
      if (isMalformed) this.#noteWrong(job, { round, scorer, reason: messageOf(error) });
      else {
        log.warn({ job, round, peer: scorer, error }, 'scorer-unchecked');
        // The cause can be the coordinator's device, the task files or the answers, so the answers are not counted as
        // wrong. But the scorer is not asked again for some rounds, so that failing checks do not cost time at each
        // checkpoint.
        const { scorers, driver } = this.#deps.coordinator.find(job);
        scorers.noteSilence(scorer, driver.state.round, 'tasks');
      }
    }
    return null;
  }

  /** Returns the answers of a scorer; null if it is busy, fails or does not answer in time. */
  async #answers(
    job: string,
    {
      round,
      scorer,
      questions,
      evaluation,
    }: {
      round: number;
      scorer: string;
      questions: Uint8Array;
      evaluation: Pick<CheckRequest, 'compute'>;
    },
    signal: AbortSignal,
  ): Promise<Uint8Array | null> {
    const { store, coordinator, log } = this.#deps;
    const { context, offered } = coordinator.find(job);
    const { envelope } = store.rounds.checkpoint(job, round)!;
    const { adapter } = verifyMessage('checkpoint', envelope).message;
    try {
      return await context.collector.withScope(async (scope) => {
        const digest = await scope.put(questions);
        const asked = {
          adapter,
          questions: { digest, size: questions.byteLength },
          baseBits: baseBitsOf(evaluation),
        };
        return offered.during({ peer: scorer, digest }, () =>
          askScorer(scorer, asked, { context, scope, signal }),
        );
      });
    } catch (error) {
      signal.throwIfAborted();
      const isBusy = isSwarmError(error, 'RPC_REFUSED') && error.values.code === 'EVALUATION_BUSY';
      log[isBusy ? 'info' : 'warn']({ job, round, peer: scorer, error }, 'scorer-failed');
      if (isBusy) return null;
      const run = coordinator.find(job);
      run.scorers.noteSilence(scorer, run.driver.state.round, 'tasks');
      this.#report(job, { round, scorer, reason: messageOf(error), isWrong: false });
      return null;
    }
  }

  #noteWrong(job: string, failure: { round: number; scorer: string; reason: string }): void {
    const { coordinator, log } = this.#deps;
    const { round, scorer, reason } = failure;
    coordinator.find(job).scorers.noteWrong(scorer);
    log.warn({ job, round, peer: scorer, reason }, 'scorer-wrong');
    this.#report(job, { ...failure, isWrong: true });
  }

  #report(
    job: string,
    {
      round,
      scorer: peer,
      reason,
      isWrong,
    }: { round: number; scorer: string; reason: string; isWrong: boolean },
  ): void {
    this.#deps.coordinator.find(job).driver.transact((outbox) => {
      outbox.event({ type: 'scorer-failed', round, peer, work: 'tasks', reason, isWrong });
    });
  }

  /** Returns a random number, uniform in [0, 1), that no peer can predict. */
  #draw(job: string): number {
    const bytes = this.#deps.coordinator.find(job).context.deps.randomBytes(6);
    return Buffer.from(bytes).readUIntBE(0, 6) / 2 ** 48;
  }
}

function baseBitsOf({ compute }: Pick<CheckRequest, 'compute'>): BaseBits {
  return compute.baseBits ?? 32;
}

/** Returns whether the answers of a scorer are close enough to the answers of the coordinator. */
export function isRight({ documents, difference, otherChoices }: SpotCheck, baseBits: BaseBits): boolean {
  return difference <= TOLERANCE[baseBits] && otherChoices <= OTHER_CHOICES_SHARE * documents;
}
