import type { RunningSettings } from '../job/settings.ts';
import type { SampleResult } from './samples.ts';

/** The tasks of a job, and the figures that decide which checkpoint is the best. */
export interface JobTasksView {
  /** Number n: every n-th checkpoint is evaluated, and also the last one. */
  every: number;
  /** Metric that decides which checkpoint is the best; null if the held-out loss decides. */
  metric: string | null;
  /** The newest evaluated checkpoint, and its value of the metric; null before the first evaluation. */
  newest: { round: number; value: number | null } | null;
  /** The best checkpoint by the metric; null if no metric is chosen, or before the first evaluation. */
  best: { round: number; value: number } | null;
}

/** A change of a job's settings. */
export interface SettingsChange {
  /** Number of the change. The first change of the job has the number 1. */
  sequence: number;
  /** Digest of the signed record of this change. Heads and checkpoints contain it. */
  digest: string;
  /** The first round in which the changed settings apply. */
  fromRound: number;
  /** The settings that changed, by their keys in the job file. */
  changes: { key: string; before: number; after: number }[];
  /** All settings that may change, after this change. */
  values: RunningSettings;
  reason: string;
  at: number;
}

/** Figures of a checkpoint on the tasks of its job. */
export interface CheckpointTasks {
  /** Figures by names such as `questions.exact_match,none`; null if the evaluation failed. */
  figures: Record<string, number> | null;
  /** Value of the chosen metric; null if no metric is chosen. */
  value: number | null;
  /** Reason why the evaluation failed; empty otherwise. */
  reason: string;
  seconds: number;
  at: number;
}

/** Texts that the base and a checkpoint of a job generated from the same prompts. */
export interface SamplesView {
  /** Whether the job has prompts. */
  hasPrompts: boolean;
  /** Rounds of the checkpoints with samples, oldest first. */
  rounds: number[];
  /** The samples of the requested checkpoint, or the newest samples; null if there are none. */
  result: SampleResult | null;
}
