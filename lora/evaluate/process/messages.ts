/** The methods of a process that evaluates tasks and generates samples. */
import type { ComputeInput } from '../../train/compute.ts';

interface ModelRequest {
  /** Folder of the base, in Hugging Face layout. */
  readonly base: string;
  /** PEFT folder of the adapter. */
  readonly adapter: string;
  readonly compute: ComputeInput;
  /** Folder of converted weights. */
  readonly cacheDir: string;
}

export interface TaskProcessRequest extends ModelRequest {
  /** Files of tasks and groups. */
  readonly tasks: readonly string[];
  /** Number of documents of each task to evaluate; null for all documents. */
  readonly limit: number | null;
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
};
