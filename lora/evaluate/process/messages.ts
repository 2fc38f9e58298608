/** The methods of a process that evaluates tasks and generates samples. */
import type { ComputeInput } from '../../train/compute.ts';
import type { SpotCheck } from '../questions/spot-check.ts';

interface ModelRequest {
  /** Folder of the base, in Hugging Face layout. */
  readonly base: string;
  /** PEFT folder of the adapter. */
  readonly adapter: string;
  readonly compute: ComputeInput;
  /** Folder of converted weights. */
  readonly cacheDir: string;
}

/** Tasks, and the number of their documents that are evaluated. */
export interface QuestionsRequest {
  /** Files of tasks and groups. */
  readonly tasks: readonly string[];
  /** Number of documents of each task to evaluate; null for all documents. */
  readonly limit: number | null;
}

export interface TaskProcessRequest extends ModelRequest, QuestionsRequest {}

export interface AnswerRequest extends ModelRequest {
  /** Encoded questions. */
  readonly questions: Uint8Array;
  /** Whether the process must run at the lowest priority of the system. */
  readonly isPolite: boolean;
}

/** Progress of an answer: the numbers of answered questions and of all questions. */
export interface AnswerProgress {
  readonly done: number;
  readonly total: number;
}

export interface CheckRequest extends TaskProcessRequest {
  /** Digest of the questions that were answered. */
  readonly questions: string;
  /** Encoded answers. */
  readonly answers: Uint8Array;
  /** Random numbers, uniform in [0, 1). Each of them chooses a document whose answers are checked. */
  readonly draws: readonly number[];
}

/** The figures that follow from answers, and the check of these answers. */
export interface CheckedFigures {
  readonly figures: FlatFigures;
  readonly check: SpotCheck;
}

export interface SampleRequest extends ModelRequest {
  /** The tokens of each prompt, with special tokens. */
  readonly prompts: readonly (readonly number[])[];
  /** Maximum number of tokens of each continuation. */
  readonly maxTokens: number;
  /** Whether the base alone continues the prompts too. */
  readonly withBase: boolean;
}

/** Continuations of the prompts, in the order of the prompts. */
export interface Samples {
  /** Continuations by the base alone; null if the request did not ask for them. */
  readonly before: readonly string[] | null;
  /** Continuations by the base with the adapter. */
  readonly after: readonly string[];
}

/** Figures under names such as `questions.exact_match,none`. */
export type FlatFigures = Record<string, number>;

export type TaskProcessMethods = {
  evaluate: { request: TaskProcessRequest; reply: FlatFigures };
  sample: { request: SampleRequest; reply: Samples };
  questions: { request: QuestionsRequest; reply: Uint8Array };
  answer: { request: AnswerRequest; reply: Uint8Array; progress: AnswerProgress };
  check: { request: CheckRequest; reply: CheckedFigures };
};
