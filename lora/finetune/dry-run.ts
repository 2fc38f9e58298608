import { readdir, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { formatBytes, formatCount, formatDuration, table } from '../../common/text.ts';
import { loadTokenizer } from '../data/tokenizer.ts';
import { createEngine } from '../engines/engine.ts';
import { openBase } from '../models/base-model.ts';
import { weightFileBytes, weightFileSuffix } from '../models/prepare-weights.ts';
import { availableMemory } from '../train/available-memory.ts';
import { checkpointingLine } from '../train/checkpointing.ts';
import type { ComputeOnDevices } from '../train/compute.ts';
import { estimateTraining, fitsMemory, secondsPerStep } from '../train/estimate.ts';
import { type MachineSpeed, measureSpeed } from '../train/speed.ts';
import { usesProcessor } from '../train/trainers.ts';
import { trainingFiles } from './data.ts';
import { finetuneError } from './errors.ts';
import { trainingConfig } from './finetune.ts';
import {
  decideForRun,
  inTrainers,
  lessMemory,
  memoryOf,
  microBatchThatFits,
  type RunMemory,
} from './memory.ts';
import { sampleData } from './sample.ts';
import type { TrainSpec } from './settings.ts';

export interface DryRunOptions {
  output: string;
  cacheDir: string;
  compute: ComputeOnDevices;
  now: number;
  signal: AbortSignal;
}

/** Bytes of files. */
export interface DiskEstimate {
  /** The model's weights as they are computed with, in the cache; 0 where some of that size are there already. */
  readonly weights: number;
  /** Packed rows, in the cache. */
  readonly data: number;
  /** Adapter and checkpoints, in the output. */
  readonly output: number;
  /** Free where each goes. */
  readonly freeInCache: number;
  readonly freeInOutput: number;
}

export interface RunEstimate {
  readonly model: { family: string; parameters: number };
  readonly adapterParameters: number;
  readonly tokens: number;
  readonly rows: number;
  readonly steps: number;
  /** Whether tokens and rows were counted; else they are extrapolated from the beginning of the data. */
  readonly counted: boolean;
  readonly memory: RunMemory & {
    available: number;
    /** Whether it has to fit into what is available: where GPUs alone train they have memory of their own, how much is not known. */
    onProcessor: boolean;
  };
  readonly disk: DiskEstimate;
  readonly time: {
    flopsPerStep: number;
    /** Of the probe, with a base of the bits that it is loaded in. */
    speed: MachineSpeed;
    secondsPerStep: number;
    seconds: number;
  };
  /** Rows at a time that would fit, where those asked for do not; null where not even one does, or all is well. */
  readonly microBatchThatFits: number | null;
  readonly fits: boolean;
  /** Whether the forward pass would be computed twice, and why where nobody asked for it. */
  readonly checkpointing: { readonly on: boolean; readonly reason: string | null };
}

/** A forward pass takes about this share of a training step. */
const FORWARD_SHARE = 0.4;
/** Ids, labels and segments of a token, at most. */
const PACKED_BYTES = 10;
/** Adapter and two moments. */
const CHECKPOINT_SETS = 3;

/** What a run would take. The weights are not read; of the data, the beginning; the machine is measured for a second. */
export async function estimateRun(spec: TrainSpec, options: DryRunOptions): Promise<RunEstimate> {
  const { signal, now, cacheDir, output } = options;
  const { threads, baseBits, precision, devices } = options.compute;
  const model = await openBase(spec.base);
  const tokenizer = await loadTokenizer(spec.base);
  const { paths: train, settings } = trainingFiles(spec);
  const { heldOut } = spec.data;
  const sample = (paths: readonly string[]) =>
    sampleData({ paths, settings, modelDir: spec.base, now, signal }, { tokenizer });
  const data = await sample(train);
  const share = typeof heldOut === 'number' ? heldOut : 0;
  const measured = Array.isArray(heldOut) ? (await sample(heldOut)).tokens : share * data.tokens;

  const { sequenceLength, batchSize, microBatch } = spec.training;
  const rows = Math.ceil((1 - share) * data.rows(sequenceLength));
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

  const weights = weightFileBytes(model, baseBits);
  const checkpoint = CHECKPOINT_SETS * 4 * work.parameters;
  const disk = {
    weights: (await holdsWeights(cacheDir, weights, weightFileSuffix(baseBits))) ? 0 : weights,
    data: PACKED_BYTES * sequenceLength * rows,
    // Those that are kept, the best, the one that is being written, and the adapter.
    output: (spec.run.keepCheckpoints + 2) * checkpoint + 4 * work.parameters,
    freeInCache: await freeBytes(cacheDir),
    freeInOutput: await freeBytes(output),
  };
  const inMemory = !onProcessor || fitsMemory(memory.total, available);
  const fitsDisk = disk.weights + disk.data <= disk.freeInCache && disk.output <= disk.freeInOutput;
  return {
    model: { family: model.config.family, parameters: model.parameters },
    adapterParameters: work.parameters,
    tokens: Math.round((1 - share) * data.trainedTokens),
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

export function estimateLines(estimate: RunEstimate, { training, lora }: TrainSpec): string[] {
  const { memory, disk, time, model, checkpointing } = estimate;
  const about = estimate.counted ? '' : 'about ';
  const { flops, baseFlops, float16Flops } = time.speed;
  const withBase = float16Flops ?? baseFlops;
  const [perStep, gflop] = [time.secondsPerStep, time.flopsPerStep / 1e9];
  const gflops =
    `${formatCount(flops / 1e9)} GFLOP/s` +
    (withBase === undefined ? '' : ` (products with the base: ${formatCount(withBase / 1e9)})`);
  return [
    `${model.family} of ${formatCount(model.parameters)} parameters; adapter of rank ${lora.rank}: ` +
      `${formatCount(estimate.adapterParameters)}`,
    `${about}${formatCount(estimate.tokens)} tokens in ${formatCount(estimate.rows)} rows; ${estimate.steps === 1 ? '1 step' : `${formatCount(estimate.steps)} steps`} ` +
      `of ${training.batchSize} × ${training.sequenceLength} tokens, ${training.microBatch === 1 ? 'one row' : `${training.microBatch} rows`} at a time`,
    ...table([
      [
        'memory',
        `${formatBytes(memory.total)} of ${formatBytes(memory.available)} available`,
        memoryParts(memory) + (memory.onProcessor ? '' : '; how much a GPU has of its own is not known'),
      ],
      [
        'disk',
        `${formatBytes(disk.weights + disk.data)} in the cache, ${formatBytes(disk.output)} in the output`,
        `weights ${formatBytes(disk.weights)}, packed data ${formatBytes(disk.data)}`,
      ],
      [
        'time',
        `${formatDuration(time.seconds)}, ${perStep < 10 ? `${perStep.toPrecision(2)} s` : formatDuration(perStep)} a step`,
        `${gflop < 1000 ? gflop.toPrecision(3) : formatCount(gflop)} GFLOP a step at ${gflops}, measured just now on single operations; ` +
          'an idle machine, right to a factor of two',
      ],
    ]),
    ...(checkpointing.reason === null ? [] : [checkpointingLine(checkpointing.reason)]),
  ];
}

/** @throws DOES_NOT_FIT with what is short and what would help */
export function refuseIfTooLarge({ fits, memory, disk, microBatchThatFits: rows }: RunEstimate): void {
  if (fits) return;
  if (memory.onProcessor && !fitsMemory(memory.total, memory.available)) {
    const next = rows === null ? lessMemory(memory) : `--micro-batch ${rows} fits, and gives the same result`;
    throw finetuneError(
      'DOES_NOT_FIT',
      `it needs ${formatBytes(memory.total)} of memory${inTrainers(memory)} and a quarter to spare, and ${formatBytes(memory.available)} are available`,
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
    `${what} needs ${formatBytes(needed as number)} of disk, and ${formatBytes(free as number)} are free`,
    { needed, available: free },
    { next: 'free some, or choose another place: SWARM_CACHE for the cache, --output' },
  );
}

function memoryParts({ runtime, trainers, command, weights, activations, adapter }: RunMemory): string {
  return (
    `weights ${formatBytes(weights)}, activations ${formatBytes(activations)}, adapter and optimiser ` +
    `${formatBytes(adapter)}, the ${trainers === 1 ? 'two' : trainers + 1} processes ${formatBytes(runtime + command)}`
  );
}

/** Converted weights lie in files of their own, and their size tells. */
async function holdsWeights(cacheDir: string, bytes: number, suffix: string): Promise<boolean> {
  for (const name of await readdir(cacheDir).catch(() => [])) {
    if (name.endsWith(suffix) && (await stat(join(cacheDir, name))).size === bytes) return true;
  }
  return false;
}

/** Of the disk of the folder, or of the nearest one above it that exists. */
async function freeBytes(path: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(path);
    return bavail * bsize;
  } catch (error) {
    if (dirname(path) === path) throw error;
    return freeBytes(dirname(path));
  }
}
