import type { AnswerProgress } from '../../lora/evaluate/process/messages.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';

/** The questions of an evaluation, and the adapter that answers them. */
export interface QuestionsToAnswer {
  readonly manifest: Manifest;
  /** Digest of the adapter, which is in the blob store of the node. */
  readonly adapter: string;
  /** Encoded questions. */
  readonly questions: Uint8Array;
}

/** Answers the questions of evaluations. `AnswerProcess` does this in a child process. */
export interface QuestionAnswerer {
  /**
   * Returns the encoded answers.
   * @throws SwarmError EVALUATION_MEMORY, MESSAGE_*, or another error of the model; the signal's reason
   */
  answer(
    questions: QuestionsToAnswer,
    options: { signal: AbortSignal; onProgress: (progress: AnswerProgress) => void },
  ): Promise<Uint8Array>;
}
