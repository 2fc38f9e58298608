/** Progress events of a fine-tuning run, in the order in which they occur, and its result. */
import type { SwarmError } from '../../common/errors.ts';
import type { BadRow, RowSummary, RowTally } from '../../protocol/api/job-creation.ts';
import type { EngineName } from '../engines/names.ts';
import type { FetchProgress } from '../models/hub/fetch-model.ts';
import type { ChosenEngine } from '../train/devices/choose.ts';
import type { Fallback } from '../train/devices/fallback.ts';
import type { Choice, PresetName } from '../train/presets.ts';
import type { StoppingRule } from '../train/stopping.ts';

/** Callbacks of a fine-tuning run, in the order in which they are first called. All are optional. */
export interface FinetuneListener {
  /** A base on the hub is being downloaded, or a GGUF file is being converted. */
  onDownload?(progress: FetchProgress): void;
  /** An engine is about to be measured for `auto`. A measurement takes about 2 seconds. */
  onProbe?(engine: EngineName): void;
  /** `auto` chose an engine. */
  onEngine?(chosen: ChosenEngine): void;
  /** A preset chose settings. */
  onPreset?(name: PresetName, choices: readonly Choice[]): void;
  /** The micro-batch is smaller than the default, so that every device gets a part of the batch. */
  onBatchShared?(microBatch: number, reason: string): void;
  /** `auto` turned gradient checkpointing on. */
  onCheckpointing?(reason: string): void;
  /** `done` of `total` bytes of data files have been read. Not called if the packed rows are cached. */
  onPacking?(done: number, total: number): void;
  /** A record of a data file cannot be used. */
  onBadRow?(row: BadRow): void;
  /** The data of one part (training or held-out) is packed. */
  onData?(data: PackedPart): void;
  /** The size of the run is known. */
  onPlan?(plan: RunPlan): void;
  /** A run was resumed. It continues after this step. */
  onResumed?(step: number): void;
  /** A setting or state is allowed but probably not intended. The run continues. */
  onWarning?(warning: SwarmError): void;
  /** An optimiser step is done. */
  onStep?(step: RunStep): void;
  /** `done` of `total` held-out rows have been measured. */
  onMeasuring?(done: number, total: number): void;
  /** The held-out loss was measured. */
  onEvaluated?(evaluation: RunEvaluation): void;
  /** A checkpoint was written. */
  onCheckpoint?(checkpoint: { step: number; path: string }): void;
  /** One of several devices failed; the run continues without it. */
  onNotice?(text: string): void;
  /** A device failed; the run continues from the newest checkpoint with these settings. */
  onFallback?(fallback: Fallback): void;
  /**
   * An interruption or error ends the run. The output holds the adapter after this step.
   * `resumable` is false if a resumed run would fail with the same error.
   */
  onPartial?(state: { step: number; resumable: boolean }): void;
}

/** Numbers of records read and samples packed, for either the training data or the held-out data. */
export interface PackedPart {
  part: 'train' | 'held-out';
  /**
   * Number of records in the files of the part, and how many of them cannot be used. It is null for held-out data that is
   * a share of the training examples, because the numbers of the training data include its records.
   */
  read: RowSummary | null;
  /** Counters of the packed samples. */
  tally: RowTally;
}

/** Size of a training run, as far as it is known before the first step. */
export interface RunPlan {
  /** Number of supervised tokens of the training data. */
  tokens: number;
  /** Number of packed rows of the training data. */
  rows: number;
  /** Number of optimiser steps of the whole run. */
  steps: number;
  /** Number of values in the adapter. */
  parameters: number;
  /** Loss before the first step, in nats per token; null without held-out data. */
  heldOutLoss: number | null;
}

/** An optimiser step. */
export interface RunStep {
  step: number;
  steps: number;
  /** Mean loss of the step, in nats per supervised token. */
  loss: number;
  learningRate: number;
  gradientNorm: number;
  /** Number of passes over the data so far. */
  epoch: number;
  /** Number of supervised tokens trained on so far. */
  tokens: number;
  tokensPerSecond: number;
  secondsLeft: number;
}

/** A measurement of the held-out loss during the run. */
export interface RunEvaluation {
  step: number;
  /** Held-out loss in nats per supervised token. */
  heldOutLoss: number;
  /** Whether this held-out loss is the lowest of the run so far. */
  best: boolean;
}

/** Outcome of a fine-tuning run that was not interrupted. */
export interface FinetuneResult {
  /** Folder of the base model. */
  base: string;
  /** Number of optimiser steps made. */
  step: number;
  /** Number of supervised tokens trained on. */
  tokens: number;
  seconds: number;
  /** Loss of the last step; null when no step was made. */
  loss: number | null;
  /** Held-out loss before the first step. */
  lossBefore: number | null;
  /** Held-out loss of the adapter in the output. */
  lossAfter: number | null;
  /** The step whose adapter is in the output. */
  adapterStep: number;
  finished: 'steps' | 'early-stopping';
  /** The rule by which early stopping ends the run. */
  stopping: StoppingRule;
}
