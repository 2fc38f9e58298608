import { readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { freeBytesOf } from '../../common/files/file-system.ts';
import { formatBytes } from '../../common/text.ts';
import { loadTokenizer } from '../data/tokenizer.ts';
import { createEngine } from '../engines/engine.ts';
import { openBase } from '../models/base/base-model.ts';
import { weightFileDiskBytes, weightFileSuffix } from '../models/weights/prepare-weights.ts';
import type { ComputeOnDevices } from '../train/compute.ts';
import { type MachineSpeed, measureSpeed, secondsPerStep } from '../train/devices/speed.ts';
import { availableMemory } from '../train/memory/available-memory.ts';
import { estimateTraining, fitsMemory } from '../train/memory/estimate.ts';
import { usesProcessor } from '../train/memory/trainers.ts';
import { trainingFiles } from './data.ts';
import { finetuneError } from './errors.ts';
import {
  decideForRun,
  inTrainers,
  lessMemory,
  memoryOf,
  microBatchThatFits,
  type RunMemory,
} from './memory.ts';
import { sampleData, trainingPart } from './sample.ts';
import { type TrainSpec, trainingConfig } from './settings/settings.ts';

export interface EstimateRunOptions {
  output: string;
  cacheDir: string;
  compute: ComputeOnDevices;
  now: number;
  signal: AbortSignal;
}

/** Bytes that a run writes to disk. */
export interface DiskEstimate {
  /**
   * Bytes of converted weights in the cache folder; 0 if the cache already has a weight file of the same
   * size.
   */
  readonly weights: number;
  /** Bytes of packed rows in the cache folder. */
  readonly data: number;
  /** Bytes of the adapter and the checkpoints in the output folder. */
  readonly output: number;
  /** Free bytes on the disk of the cache folder, and on the disk of the output folder. */
  readonly freeInCache: number;
  readonly freeInOutput: number;
}

/** Memory, disk and time of a run. */
export interface RunEstimate {
  readonly model: { family: string; parameters: number };
  readonly adapterParameters: number;
  readonly tokens: number;
  readonly rows: number;
  readonly steps: number;
  /**
   * Whether tokens and rows were counted in all data. Otherwise they are extrapolated from the beginning of the data.
   */
  readonly counted: boolean;
  readonly memory: RunMemory & {
    available: number;
    /** Whether the run must fit into the available memory. false if it uses only GPUs, whose memory size is unknown. */
    onProcessor: boolean;
  };
  readonly disk: DiskEstimate;
  readonly time: {
    flopsPerStep: number;
    /** Measured speed of the first device. */
    speed: MachineSpeed;
    secondsPerStep: number;
    seconds: number;
  };
  /**
   * Largest micro-batch that fits into memory. null if the requested micro-batch fits, or if not even one row fits.
   */
  readonly microBatchThatFits: number | null;
  readonly fits: boolean;
  /** `on`: whether gradient checkpointing is on. `reason`: why `auto` turned it on; null if `auto` did not. */
  readonly checkpointing: { readonly on: boolean; readonly reason: string | null };
}

/** Approximate time of a forward pass, as a share of the time of a training step. */
const FORWARD_SHARE = 0.4;
/** Maximum size of a packed token in bytes: id, label and segment. */
const PACKED_BYTES = 10;
/** Values in a checkpoint for each value of the adapter: the value itself and two moments of the optimiser. */
const CHECKPOINT_SETS = 3;

/** Estimates memory, disk and time of a run. Reads only the beginning of the data, and no weights. */
export async function estimateRun(spec: TrainSpec, options: EstimateRunOptions): Promise<RunEstimate> {
  const { signal, now, cacheDir, output } = options;
  const { threads, baseBits, precision, devices } = options.compute;
  const model = await openBase(spec.base);
  const tokenizer = await loadTokenizer(spec.base);
  const { paths: train, settings } = trainingFiles(spec);
  const { heldOut } = spec.data;
  const sample = (paths: readonly string[]) =>
    sampleData({ paths, settings, modelDir: spec.base, now, signal }, { tokenizer });
  const all = await sample(train);
  const data = trainingPart(all, heldOut);
  const measured = Array.isArray(heldOut) ? (await sample(heldOut)).tokens : all.tokens - data.tokens;

  const { sequenceLength, batchSize, microBatch } = spec.training;
  const rows = data.rows(sequenceLength);
  const training = trainingConfig(spec, rows);
  const steps = training.totalSteps;
  const available = availableMemory();
  const { compute, reason } = decideForRun(model, spec, options.compute, available);
  const { work } = estimateTraining(model, { lora: spec.lora, training, compute });
  const onProcessor = usesProcessor(compute);
  const memory = { ...memoryOf(model, spec, compute), available, onProcessor };
  const [{ engine, device }] = devices;
  const speed = await measureSpeed(await createEngine(engine, { threads, device }), {
    tokens: microBatch * sequenceLength,
    width: model.config.hiddenSize,
    baseBits,
    float16: precision === 'float16',
    signal,
  });
  const perStep = secondsPerStep(work, speed, precision);
  const evaluations =
    heldOut === null ? 0 : 2 + (spec.run.evaluateEvery > 0 ? Math.floor(steps / spec.run.evaluateEvery) : 0);
  const evaluating = (evaluations * FORWARD_SHARE * perStep * measured) / (batchSize * sequenceLength);

  const weights = weightFileDiskBytes(model, baseBits);
  const checkpoint = CHECKPOINT_SETS * 4 * work.parameters;
  const disk = {
    weights: (await holdsWeights(cacheDir, weights, weightFileSuffix(baseBits))) ? 0 : weights,
    data: PACKED_BYTES * sequenceLength * rows,
    // Bytes of the kept checkpoints, the best checkpoint, the checkpoint that is being written, and the
    // adapter.
    output: (spec.run.keepCheckpoints + 2) * checkpoint + 4 * work.parameters,
    freeInCache: await freeBytes(cacheDir),
    freeInOutput: await freeBytes(output),
  };
  const inMemory = !onProcessor || fitsMemory(memory.total, available);
  const fitsDisk = disk.weights + disk.data <= disk.freeInCache && disk.output <= disk.freeInOutput;
  return {
    model: { family: model.config.family, parameters: model.parameters },
    adapterParameters: work.parameters,
    tokens: data.trainedTokens,
    rows,
    steps,
    counted: data.exact,
    memory,
    disk,
    time: {
      flopsPerStep: work.flopsPerStep,
      speed,
      secondsPerStep: perStep,
      seconds: steps * perStep + evaluating,
    },
    microBatchThatFits: inMemory ? null : microBatchThatFits(model, spec, compute, available),
    fits: inMemory && fitsDisk,
    checkpointing: { on: compute.checkpointing, reason },
  };
}

/** @throws SwarmError DOES_NOT_FIT if memory or disk is too small */
export function refuseIfTooLarge({ fits, memory, disk, microBatchThatFits: rows }: RunEstimate): void {
  if (fits) return;
  if (memory.onProcessor && !fitsMemory(memory.total, memory.available)) {
    const next =
      rows === null ? lessMemory(memory) : `use --micro-batch ${rows}, which fits and gives the same result`;
    throw finetuneError(
      'DOES_NOT_FIT',
      `the run needs ${formatBytes(memory.total)} of memory${inTrainers(memory)} and a quarter more as a reserve, but only ${formatBytes(memory.available)} is available`,
      { needed: memory.total, available: memory.available, microBatch: rows },
      { next },
    );
  }
  const cache = disk.weights + disk.data;
  const [what, needed, free] =
    cache > disk.freeInCache
      ? ['the cache', cache, disk.freeInCache]
      : ['the output', disk.output, disk.freeInOutput];
  throw finetuneError(
    'DOES_NOT_FIT',
    `${what} needs ${formatBytes(needed as number)} of disk space, but only ${formatBytes(free as number)} is free`,
    { needed, available: free },
    { next: 'free disk space, or use another disk (SWARM_CACHE for the cache, --output for the output)' },
  );
}

/** Returns whether the cache has a file of this size whose name ends with `suffix`. */
async function holdsWeights(cacheDir: string, bytes: number, suffix: string): Promise<boolean> {
  for (const name of await readdir(cacheDir).catch(() => [])) {
    if (name.endsWith(suffix) && (await stat(join(cacheDir, name))).size === bytes) return true;
  }
  return false;
}

/** Returns the free bytes on the disk of a folder, or of its nearest existing parent. */
async function freeBytes(path: string): Promise<number> {
  try {
    return await freeBytesOf(path);
  } catch (error) {
    if (dirname(path) === path) throw error;
    return freeBytes(dirname(path));
  }
}
