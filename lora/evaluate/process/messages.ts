/** The method of a process that evaluates tasks. */
import type { ComputeInput } from '../../train/compute.ts';

export interface TaskProcessRequest {
  /** Folder of the base, in Hugging Face layout. */
  readonly base: string;
  /** PEFT folder of the adapter. */
  readonly adapter: string;
  /** Files of tasks and groups. */
  readonly tasks: readonly string[];
  /** Number of documents of each task to evaluate; null for all documents. */
  readonly limit: number | null;
  readonly compute: ComputeInput;
  /** Folder of converted weights. */
  readonly cacheDir: string;
}

/** Figures under names such as `questions.exact_match,none`. */
export type FlatFigures = Record<string, number>;

export type TaskProcessMethods = { evaluate: { request: TaskProcessRequest; reply: FlatFigures } };
