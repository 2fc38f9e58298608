/** Fine-tuning on one machine. `finetune` is the entry point for programs and for `lora-swarm train`. */
import { resolve } from 'node:path';
import { withAbortReason } from '../../common/abort-reason.ts';
import { commonError } from '../../common/common-errors.ts';
import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import { claimOutput } from '../../common/files/folders.ts';
import { adapterLayout } from '../adapter/layout.ts';
import { readStart } from '../adapter/start.ts';
import { loadTokenizer } from '../data/tokenizer.ts';
import { deviceName } from '../engines/names.ts';
import { describeBase } from '../models/base/base-identity.ts';
import { openBase } from '../models/base/base-model.ts';
import { checkLength } from '../models/blocks/modules.ts';
import { requireDevices } from '../train/devices/choose.ts';
import { fallbackFor, type Workload } from '../train/devices/fallback.ts';
import { availableMemory } from '../train/memory/available-memory.ts';
import { type Run, runAttempt } from './attempt.ts';
import { CheckpointFolder } from './checkpoints.ts';
import { packRunData } from './data.ts';
import { finetuneError } from './errors.ts';
import { estimateRun, type RunEstimate } from './estimate.ts';
import type { FinetuneListener, FinetuneResult } from './listener.ts';
import { decideForRun, memoryWarning } from './memory.ts';
import { lockOutput } from './output-lock.ts';
import {
  type PrepareDeps,
  type PreparedRun,
  type PrepareOptions,
  prepareRun,
  withDefaults,
} from './prepare.ts';
import { refuseDifferences, resumeFrom } from './resume.ts';
import { type Publication, type RunSettings, storedCompute } from './settings/run-settings.ts';
import { type TrainSpec, trainingConfig } from './settings/settings.ts';
import { warmupWarning } from './settings/warnings.ts';

/** Advice after the death of a trainer process for which no fallback is left. */
const DIED =
  'if memory ran out even with smaller micro-batches, start over with --base-bits 4 or a smaller --sequence-length; if other programs took the memory, continue later with --resume';

/** Options of a fine-tuning run. */
export interface FinetuneOptions extends PrepareOptions {
  /** Folder of the adapter and the checkpoints. */
  output: string;
  /** Whether to overwrite the files in `output`. @default false */
  force?: boolean | undefined;
  /**
   * Where the caller publishes the adapter and the curves of the run. `finetune` itself publishes nothing. It keeps these
   * settings in the checkpoints, for the calls that resume the run.
   * @default the settings of the checkpoint
   */
  publication?: Publication | undefined;
}

/**
 * Trains an adapter on this machine and writes it to `output` as a PEFT folder, with checkpoints beside it.
 *
 * @throws SwarmError USAGE, FOLDER_UNUSABLE, OUTPUT_EXISTS, OUTPUT_BUSY, NOTHING_TO_RESUME, RESUME_CONFLICT, ENGINE_*,
 * MODEL_*, DATA_*, LORA_*, TRAINER_*, GRADIENT_NOT_FINITE; the signal's reason
 */
export async function finetune(
  given: FinetuneOptions,
  listener: FinetuneListener = {},
  deps: PrepareDeps = {},
): Promise<FinetuneResult> {
  const { resume, force } = given;
  if (resume && force) {
    throw commonError(
      'USAGE',
      'resume and force cannot be combined, because resume continues a run and force starts a new one',
      {},
      { next: 'use either --resume or --force' },
    );
  }
  const options = withDefaults(given);
  options.output = resolve(options.output);
  return withAbortReason(options.signal, async () =>
    trainPrepared({ ...options, ...(await prepareRun(options, listener, deps)) }, listener),
  );
}

/** Dependencies of an estimate. All have defaults. */
export interface EstimateDeps extends PrepareDeps {
  /** Folder whose disk is checked if `output` is null. @default the cache folder */
  folder?: string;
}

/** Memory, disk and time that a fine-tuning run would need. */
export interface FinetuneEstimate {
  /** The settings with all defaults. */
  spec: TrainSpec;
  estimate: RunEstimate;
}

/**
 * Estimates memory, disk and time of a run. It reads the beginning of the data, measures the machine for about a
 * second, and writes nothing.
 * @throws SwarmError the errors that `finetune` throws before it trains; the signal's reason
 */
export async function estimateFinetune(
  given: PrepareOptions,
  listener: FinetuneListener = {},
  deps: EstimateDeps = {},
): Promise<FinetuneEstimate> {
  const options = withDefaults(given);
  const { spec, estimate } = await withAbortReason(options.signal, async () => {
    const { spec, compute } = await prepareRun(options, listener, deps);
    const output = options.output ?? deps.folder ?? options.cacheDir;
    return { spec, estimate: await estimateRun(spec, { ...options, compute, output }) };
  });
  const warning = warmupWarning(trainingConfig(spec, estimate.rows));
  if (warning !== null) listener.onWarning?.(warning);
  return { spec, estimate };
}

export interface TrainOptions
  extends PreparedRun,
    Pick<FinetuneOptions, 'resume' | 'force' | 'from' | 'publication'> {
  output: string;
  cacheDir: string;
  now: number;
  signal: AbortSignal;
}

/** Trains a prepared run. @throws the errors of `finetune` */
export async function trainPrepared(
  options: TrainOptions,
  listener: FinetuneListener,
): Promise<FinetuneResult> {
  const unlock = lockOutput(options.output, options);
  try {
    return await train(options, listener);
  } finally {
    unlock();
  }
}

async function train(options: TrainOptions, listener: FinetuneListener): Promise<FinetuneResult> {
  const { spec, asked, output, cacheDir, signal, resume = false, force = false, newest } = options;
  const checkpoints = new CheckpointFolder({ output, keep: spec.run.keepCheckpoints });
  const model = await openBase(spec.base);
  // Checks that need neither data nor weights come first, so that a mistake is reported at once.
  checkLength(model.config, spec.training.sequenceLength);
  adapterLayout(model, spec.lora);
  const stored = { spec, ...storedCompute(options.compute) };
  if (newest !== null) refuseDifferences(newest, { ...newest.settings, ...stored }, output);
  if (asked.devices !== 'auto') await requireDevices(options.compute, { signal });

  const { compute, reason } = decideForRun(model, spec, options.compute);
  if (reason !== null) listener.onCheckpointing?.(reason);
  // A run that has already used these devices is known to fit into memory, so it gets no warning.
  const before = newest === null ? [] : [newest.settings, ...newest.settings.alongside].map(deviceName);
  const known =
    compute.devices.length <= before.length &&
    compute.devices.every((device) => before.includes(deviceName(device)));
  const short = known ? null : memoryWarning(model, spec, compute, availableMemory());
  if (short !== null) listener.onWarning?.(short);

  if (newest === null) {
    const kept = await checkpoints.steps();
    if (!force && kept.length > 0) throw outputExists(output, resume);
    // Removes the unfinished first checkpoint of a run that was killed.
    if (kept.length === 0) await checkpoints.clear();
    await claimOutput(output, { force });
    if (resume) {
      const message = `${output} has no checkpoint to continue from, so a new run begins`;
      const next = 'if a run should continue here, press Ctrl-C and check --output';
      listener.onWarning?.(finetuneError('NOTHING_TO_RESUME', message, { output }, { next }));
    }
  }
  const base = await describeBase(spec.base, { signal, cacheDir });
  const start =
    options.from === undefined
      ? null
      : await readStart(options.from, model, spec.lora, {
          signal,
          cacheDir,
          onWarning: (warning) => listener.onWarning?.(warning),
        });
  const tokenizer = await loadTokenizer(spec.base);
  const startedAt = newest?.settings.startedAt ?? options.now;
  const where = { cacheDir, now: startedAt, signal };
  const { data, heldOut } = await packRunData(spec, where, { tokenizer, listener });
  const training = trainingConfig(spec, data.rows);
  const publication = options.publication ?? newest?.settings.publication ?? {};
  const settings: RunSettings = {
    ...stored,
    totalSteps: training.totalSteps,
    base: base.digest,
    rows: data.key,
    heldOut: heldOut?.key ?? null,
    start:
      start === null
        ? (newest?.settings.start ?? null)
        : { digest: start.digest, version: options.from?.version ?? null },
    startedAt,
    // Earlier releases refuse a checkpoint with this key, so it is left out if it says nothing.
    ...(Object.keys(publication).length > 0 && { publication }),
  };
  const warn = (warning: SwarmError): void => listener.onWarning?.(warning);
  let from = newest && resumeFrom(newest, { output, settings, training }, warn);
  const warmup = from === null ? warmupWarning(training) : null;
  if (warmup !== null) warn(warmup);

  const run: Run = {
    options,
    model,
    base,
    start: start?.tensors ?? null,
    training,
    settings,
    data,
    heldOut,
    checkpoints,
    begun: false,
  };
  const wanted = { compute: asked, microBatch: training.microBatch };
  let load: Workload = { compute, microBatch: training.microBatch };
  try {
    for (;;) {
      const next = (error: unknown) => (signal.aborted ? null : fallbackFor(wanted, load, error));
      try {
        const attempt = { load, from, continues: (error: unknown) => next(error) !== null };
        return await runAttempt(run, attempt, listener);
      } catch (error) {
        const fallback = next(error);
        if (fallback === null) throw isSwarmError(error, 'TRAINER_DIED') ? error.with({ next: DIED }) : error;
        listener.onFallback?.(fallback);
        load = fallback;
        if (run.begun) from = await checkpoints.newest();
      }
    }
  } finally {
    data.close();
    heldOut?.close();
  }
}

function outputExists(output: string, resume: boolean): SwarmError {
  const what = resume ? 'only damaged checkpoints' : 'the checkpoints of a run';
  const next = resume
    ? 'start again with --force'
    : 'continue that run with --resume, choose another folder, or start again with --force';
  return commonError('OUTPUT_EXISTS', `${output} holds ${what}`, { dir: output }, { next });
}
