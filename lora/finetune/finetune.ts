import { commonError } from '../../common/common-errors.ts';
import type { SwarmError } from '../../common/errors.ts';
import { claimOutput } from '../../common/folders.ts';
import { adapterLayout } from '../adapter/layout.ts';
import type { RowTally } from '../data/packing/tally.ts';
import type { BadRow, RowSummary } from '../data/row-report.ts';
import { loadTokenizer } from '../data/tokenizer.ts';
import { deviceName } from '../engines/names.ts';
import { describeBase } from '../models/base-identity.ts';
import { openBase } from '../models/base-model.ts';
import { checkLength } from '../models/blocks/modules.ts';
import { availableMemory } from '../train/available-memory.ts';
import type { ComputeOnDevices } from '../train/compute.ts';
import { type TrainingConfig, trainingConfigSchema } from '../train/config.ts';
import { type Fallback, fallbackFor, type Workload } from '../train/fallback.ts';
import { type Run, trainOnce } from './attempt.ts';
import { CheckpointFolder, type RunState } from './checkpoints.ts';
import { packRunData } from './data.ts';
import { decideForRun, memoryWarning } from './memory.ts';
import { lockOutput } from './output-lock.ts';
import { goOn } from './resume.ts';
import { lengthOf, type RunSettings, storedCompute, type TrainSpec } from './settings.ts';
import { warmupDoubt } from './warnings.ts';

export interface TrainRunOptions {
  spec: TrainSpec;
  /** Folder of the adapter and of the checkpoints. */
  output: string;
  /** Go on with the newest checkpoint in the output, or begin where there is none. */
  resume: boolean;
  /** That checkpoint; null where there is none. */
  newest: RunState | null;
  /** Overwrite what the output holds. */
  force: boolean;
  /** Where converted weights and packed data are kept between runs. */
  cacheDir: string;
  compute: ComputeOnDevices;
  /** Milliseconds since 1970. */
  now: number;
  signal: AbortSignal;
}

export interface TrainPlan {
  /** Predicted tokens and rows of the training data. */
  tokens: number;
  rows: number;
  /** Optimiser steps of the whole run. */
  steps: number;
  parameters: number;
  heldOutLoss: number | null;
}

export interface TrainStep {
  step: number;
  steps: number;
  /** Nats per predicted token, over the step. */
  loss: number;
  learningRate: number;
  gradientNorm: number;
  /** Passes over the data so far. */
  epoch: number;
  /** Predicted tokens trained on so far. */
  tokens: number;
  tokensPerSecond: number;
  secondsLeft: number;
}

export interface TrainEvaluation {
  step: number;
  heldOutLoss: number;
  /** Whether it is the lowest so far. */
  best: boolean;
}

export interface TrainData {
  part: 'train' | 'held-out';
  /** Rows of the files, and those of them that could not be used. */
  read: RowSummary;
  /** What became of the samples. */
  tally: RowTally;
}

export interface TrainListener {
  /** Bytes of data files read so far, of all: not where their packed rows were kept. */
  onPacking(done: number, total: number): void;
  /** A row that cannot be used. */
  onBadRow(row: BadRow): void;
  onData(data: TrainData): void;
  /** Gradient checkpointing is on though nobody asked for it. */
  onCheckpointing(reason: string): void;
  /** The run goes on at this step. */
  onResumed(step: number): void;
  /** Something that is hardly what was meant; the run goes on. */
  onWarning(warning: SwarmError): void;
  onPlan(plan: TrainPlan): void;
  onStep(step: TrainStep): void;
  /** Held-out rows measured so far, of all. */
  onMeasuring(done: number, total: number): void;
  onEvaluated(evaluation: TrainEvaluation): void;
  onCheckpoint(checkpoint: { step: number; path: string }): void;
  /** One of several devices has failed; the run goes on without it. */
  onNotice(text: string): void;
  /** A device has failed; the run goes on from the newest checkpoint with less. */
  onFallback(fallback: Fallback): void;
  /**
   * An interruption or a fault ends the run; the output holds the adapter after this step.
   * `resumable`: false where going on would make the same fault again.
   */
  onPartial(state: { step: number; resumable: boolean }): void;
}

export interface TrainOutcome {
  step: number;
  tokens: number;
  seconds: number;
  /** Of the last step; null when there was none. */
  loss: number | null;
  lossBefore: number | null;
  /** Of the adapter in the output. */
  lossAfter: number | null;
  /** The step whose adapter is in the output. */
  adapterStep: number;
  finished: 'steps' | 'early-stopping';
}

/**
 * Trains an adapter on this machine, in a trainer process like a node's, and writes it as a PEFT folder.
 * @throws SwarmError MODEL_*, DATA_*, LORA_*, TRAINER_*, OUTPUT_EXISTS, OUTPUT_BUSY, RESUME_CONFLICT; the signal's reason
 */
export async function trainAlone(options: TrainRunOptions, listener: TrainListener): Promise<TrainOutcome> {
  const unlock = lockOutput(options.output, options);
  try {
    return await train(options, listener);
  } finally {
    unlock();
  }
}

async function train(options: TrainRunOptions, listener: TrainListener): Promise<TrainOutcome> {
  const { spec, output, signal, resume, force, newest: found } = options;
  const checkpoints = new CheckpointFolder({ output, keep: spec.run.keepCheckpoints });
  const model = await openBase(spec.base);
  // What does not fit the model is told before a folder is made and the data is read.
  checkLength(model.config, spec.training.sequenceLength);
  adapterLayout(model, spec.lora);
  const { compute, reason } = decideForRun(model, spec, options.compute);
  if (reason !== null) listener.onCheckpointing(reason);
  // What ran before has shown that it fits, on the same devices or with others beside them.
  const had = found === null ? [] : [found.settings, ...found.settings.alongside].map(deviceName);
  const known = compute.devices.every((device) => had.includes(deviceName(device)));
  const asBefore = known && compute.devices.length <= had.length;
  const short = asBefore ? null : memoryWarning(model, spec, compute, availableMemory());
  if (short !== null) listener.onWarning(short);
  if (found === null) {
    const kept = await checkpoints.steps();
    if (!force && kept.length > 0) throw outputExists(output, resume);
    // A run that was killed before its first checkpoint may have left the beginning of one.
    if (kept.length === 0) await checkpoints.clear();
    await claimOutput(output, { force });
  }
  const base = await describeBase(spec.base, { signal, cacheDir: options.cacheDir });
  const tokenizer = await loadTokenizer(spec.base);
  const startedAt = found?.settings.startedAt ?? options.now;
  const where = { cacheDir: options.cacheDir, now: startedAt, signal };
  const { data, heldOut } = await packRunData(spec, where, { tokenizer, listener });
  const training = trainingConfig(spec, data.rows);
  const settings: RunSettings = {
    spec,
    totalSteps: training.totalSteps,
    ...storedCompute(options.compute),
    base: base.digest,
    rows: data.key,
    heldOut: heldOut?.key ?? null,
    startedAt,
  };
  const warn = (warning: SwarmError): void => listener.onWarning(warning);
  const before = found && goOn(found, { output, settings, training }, warn);
  const doubt = before === null ? warmupDoubt(training) : null;
  if (doubt !== null) warn(doubt);

  const run: Run = { options, model, base, training, settings, data, heldOut, checkpoints, begun: false };
  const first: Workload = { compute, microBatch: training.microBatch };
  const asked = { compute: options.compute, microBatch: training.microBatch };
  try {
    for (let load = first, from = before; ; ) {
      const next = (error: unknown) => (signal.aborted ? null : fallbackFor(asked, load, error));
      try {
        return await trainOnce(
          run,
          { load, before: from, goesOn: (error) => next(error) !== null },
          listener,
        );
      } catch (error) {
        const less = next(error);
        if (less === null) throw error;
        listener.onFallback(less);
        load = less;
        if (run.begun) from = await checkpoints.newest();
      }
    }
  } finally {
    data.close();
    heldOut?.close();
  }
}

/** Settings of the trainer, once it is known how many rows there are. */
export function trainingConfig(spec: TrainSpec, rows: number): TrainingConfig {
  const { training, seed } = spec;
  return trainingConfigSchema.parse({ ...training, totalSteps: lengthOf(spec, rows).steps, seed });
}

function outputExists(output: string, resume: boolean): SwarmError {
  const what = resume ? 'only checkpoints that cannot be used' : 'the checkpoints of a run';
  const next = resume
    ? 'begin anew: --force'
    : 'go on with it: --resume; choose another folder; or begin anew: --force';
  return commonError('OUTPUT_EXISTS', `${output} holds ${what}`, { dir: output }, { next });
}
