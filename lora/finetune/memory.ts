import type { SwarmError } from '../../common/errors.ts';
import { formatBytes } from '../../common/text.ts';
import { deviceName } from '../engines/names.ts';
import type { ModelShape } from '../models/targets.ts';
import type { ComputeOnDevices, ResolvedCompute } from '../train/compute.ts';
import { trainingConfigSchema } from '../train/config.ts';
import { availableMemory } from '../train/memory/available-memory.ts';
import { type CheckpointingDecision, decideCheckpointing } from '../train/memory/checkpointing.ts';
import { estimateTraining, fitsMemory, type MemoryEstimate } from '../train/memory/estimate.ts';
import { memoryOfTrainers, usesProcessor } from '../train/memory/trainers.ts';
import { finetuneError } from './errors.ts';
import type { TrainSpec } from './settings/settings.ts';

/** Memory of a run in all its processes, in bytes. */
export interface RunMemory extends MemoryEstimate {
  /** Number of trainer processes. Each device has one. */
  readonly trainers: number;
  /**
   * Bytes of the process that runs `lora-swarm train`: the adapter, the moments while the process writes them to disk,
   * and the rows of a few steps.
   */
  readonly command: number;
}

/** Measured memory of the `lora-swarm train` process in bytes, without copies of the adapter. */
const COMMAND_BYTES = 130 * 2 ** 20;
/** Maximum number of copies of the adapter's values that the `lora-swarm train` process holds at one time. */
const COMMAND_SETS = 5;

/**
 * Estimates the memory of a run from the shapes in the model's config alone.
 * @throws SwarmError LORA_*, MODEL_SEQUENCE_TOO_LONG
 */
export function memoryOf(model: ModelShape, spec: TrainSpec, compute: ResolvedCompute): RunMemory {
  const training = trainingConfigSchema.parse({ ...spec.training, seed: spec.seed });
  const { memory: one, work } = estimateTraining(model, { lora: spec.lora, training, compute });
  const command = COMMAND_BYTES + COMMAND_SETS * 4 * work.parameters;
  const memory = memoryOfTrainers(one, compute);
  return { ...memory, trainers: compute.devices.length, command, total: memory.total + command };
}

/**
 * Resolves `checkpointing: 'auto'` for a run.
 * @param available bytes of available memory. @default the available memory of this machine
 */
export function decideForRun(
  model: ModelShape,
  spec: TrainSpec,
  compute: ComputeOnDevices,
  available: number = availableMemory(),
): CheckpointingDecision {
  const needs = (resolved: ResolvedCompute) => memoryOf(model, spec, resolved).total;
  return decideCheckpointing(compute, { available, needs });
}

/**
 * Returns the largest micro-batch that fits into memory and is smaller than the micro-batch of `spec`; null
 * if not even one row fits.
 */
export function microBatchThatFits(
  model: ModelShape,
  spec: TrainSpec,
  compute: ResolvedCompute,
  available: number,
): number | null {
  for (let size = Math.floor(spec.training.microBatch / 2); size >= 1; size = Math.floor(size / 2)) {
    if (fitsMemory(memoryOf(model, withMicroBatch(spec, size), compute).total, available)) return size;
  }
  return null;
}

/**
 * Returns a warning if the run needs more memory than is available. The warning names settings that need less. Returns
 * null if the run fits, or if all devices are GPUs.
 */
export function memoryWarning(
  model: ModelShape,
  spec: TrainSpec,
  compute: ResolvedCompute,
  available: number,
): SwarmError | null {
  // The size of a GPU's memory is unknown, so only training on the processor is checked.
  if (!usesProcessor(compute)) return null;
  const memory = memoryOf(model, spec, compute);
  if (fitsMemory(memory.total, available)) return null;
  return finetuneError(
    'MEMORY_SHORT',
    `this run needs about ${formatBytes(memory.total)} of memory${inTrainers(memory)} and a quarter more as a reserve, but only ${formatBytes(available)} is available`,
    { needed: memory.total, available },
    { next: waysToFit(model, spec, compute, available) },
  );
}

/** Describes settings with which a run fits into memory, ordered from the smallest disadvantage to the largest. */
function waysToFit(model: ModelShape, spec: TrainSpec, compute: ResolvedCompute, available: number): string {
  const { checkpointing, baseBits, devices } = compute;
  const rows = microBatchThatFits(model, spec, compute, available);
  const fits = (change: Partial<ResolvedCompute>, changed = spec): boolean =>
    fitsMemory(memoryOf(model, changed, { ...compute, ...change }).total, available);
  const [first, ...others] = devices;
  const alone = { ...compute, devices: [first] as const };
  const one = others.length > 0 && (!usesProcessor(alone) || fits(alone));
  const single = [
    ...(rows === null ? [] : [`--micro-batch ${rows} (gives the same result)`]),
    ...(!checkpointing && fits({ checkpointing: true }) ? ['--gradient-checkpointing'] : []),
    ...(one ? [`--engine ${deviceName(first)}`] : []),
    ...(baseBits === 32 && fits({ baseBits: 4 }) ? ['--base-bits 4'] : []),
  ];
  if (single.length > 0) return `it fits with ${single.join(', or ')}`;
  if (fits({ checkpointing: true, baseBits: 4 }, withMicroBatch(spec, 1))) {
    return 'it fits with --micro-batch 1, --gradient-checkpointing and --base-bits 4 together';
  }
  return lessMemory({ trainers: devices.length });
}

/** Returns advice for a run that does not fit into memory, even if the settings for computing are changed. */
export function lessMemory({ trainers }: Pick<RunMemory, 'trainers'>): string {
  const fewer = trainers > 1 ? 'name fewer devices in --engine, ' : '';
  return `${fewer}use shorter rows (--sequence-length), a smaller model, or a machine with more memory`;
}

/** Returns a phrase for messages, such as " in 2 trainer processes". */
export function inTrainers({ trainers }: Pick<RunMemory, 'trainers'>): string {
  return trainers === 1 ? '' : ` in ${trainers} trainer processes`;
}

function withMicroBatch(spec: TrainSpec, microBatch: number): TrainSpec {
  return { ...spec, training: { ...spec.training, microBatch } };
}
