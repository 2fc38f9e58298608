import type { SwarmError } from '../../common/errors.ts';
import { formatBytes } from '../../common/text.ts';
import { type Device, deviceName } from '../engines/names.ts';
import type { BaseBits } from '../models/base-bits.ts';
import type { ModelShape } from '../models/targets.ts';
import { availableMemory } from '../train/available-memory.ts';
import { type Checkpointing, type CheckpointingChoice, decideCheckpointing } from '../train/checkpointing.ts';
import { trainingConfigSchema } from '../train/config.ts';
import { estimateTraining, fitsMemory, type MemoryEstimate } from '../train/estimate.ts';
import { memoryOfTrainers, usesProcessor } from '../train/trainers.ts';
import { finetuneError } from './errors.ts';
import type { TrainSpec } from './settings.ts';

/** Bytes of a run in all its processes. */
export interface RunMemory extends MemoryEstimate {
  /** Processes that train, one for each device. */
  readonly trainers: number;
  /** This process: it holds the adapter, moments while it writes them, and the rows of some steps. */
  readonly command: number;
}

/** What a machine chooses for itself. */
export interface MemorySettings {
  /** @default false */
  checkpointing?: boolean;
  /** @default 32 */
  baseBits?: BaseBits;
  /** All that share each batch. @default onnx-cpu alone */
  devices?: readonly Device[];
}

const PROCESSOR: readonly Device[] = [{ engine: 'onnx-cpu' }];

/** What `swarm train` itself holds, measured. */
const COMMAND_BYTES = 130 * 2 ** 20;
const COMMAND_SETS = 5;

/** From the shapes in the model's config alone. @throws LORA_*, MODEL_SEQUENCE_TOO_LONG */
export function memoryOf(model: ModelShape, spec: TrainSpec, settings: MemorySettings = {}): RunMemory {
  const training = trainingConfigSchema.parse({ ...spec.training, seed: spec.seed });
  const { checkpointing = false, baseBits = 32, devices = PROCESSOR } = settings;
  const { memory: one, work } = estimateTraining(model, {
    lora: spec.lora,
    training,
    checkpointing,
    baseBits,
  });
  const command = COMMAND_BYTES + COMMAND_SETS * 4 * work.parameters;
  const memory = memoryOfTrainers(one, devices, baseBits);
  return { ...memory, trainers: devices.length, command, total: memory.total + command };
}

/** What is said, or for `auto` what the model and the memory of this machine give. */
export function checkpointingOf(
  model: ModelShape,
  spec: TrainSpec,
  {
    asked,
    devices,
    baseBits,
    available = availableMemory(),
  }: { asked: CheckpointingChoice; devices: readonly Device[]; baseBits: BaseBits; available?: number },
): Checkpointing {
  const takes = (checkpointing: boolean) => memoryOf(model, spec, { checkpointing, baseBits, devices }).total;
  return decideCheckpointing(asked, { devices, baseBits, available, takes });
}

/** Rows at a time that would fit where those asked for do not; null where not even one does. */
export function microBatchThatFits(
  model: ModelShape,
  spec: TrainSpec,
  settings: MemorySettings,
  available: number,
): number | null {
  for (let size = Math.floor(spec.training.microBatch / 2); size >= 1; size = Math.floor(size / 2)) {
    if (fitsMemory(memoryOf(model, withRows(spec, size), settings).total, available)) return size;
  }
  return null;
}

/** A run that is estimated to take more than there is, with what takes less; null where it fits, or is on GPUs alone. */
export function memoryDoubt(
  model: ModelShape,
  spec: TrainSpec,
  settings: MemorySettings,
  available: number,
): SwarmError | null {
  // What a GPU has of its own is not known before it is full.
  if (!usesProcessor(settings.devices ?? PROCESSOR)) return null;
  const memory = memoryOf(model, spec, settings);
  if (fitsMemory(memory.total, available)) return null;
  return finetuneError(
    'MEMORY_SHORT',
    `this run takes about ${formatBytes(memory.total)} of memory${inTrainers(memory)} and a quarter to spare, and ${formatBytes(available)} are available`,
    { needed: memory.total, available },
    { next: waysOut(model, spec, settings, available) },
  );
}

/** What would make a run fit, the least costly first. */
function waysOut(model: ModelShape, spec: TrainSpec, settings: MemorySettings, available: number): string {
  const { checkpointing = false, baseBits = 32, devices = PROCESSOR } = settings;
  const rows = microBatchThatFits(model, spec, settings, available);
  const fits = (change: MemorySettings, of = spec): boolean =>
    fitsMemory(memoryOf(model, of, { ...settings, ...change }).total, available);
  const [first, ...others] = devices;
  const alone = others.length > 0 && (!usesProcessor([first!]) || fits({ devices: [first!] }));
  const single = [
    ...(rows === null ? [] : [`--micro-batch ${rows} (the same result)`]),
    ...(!checkpointing && fits({ checkpointing: true }) ? ['--gradient-checkpointing'] : []),
    ...(alone ? [`--engine ${deviceName(first!)}`] : []),
    ...(baseBits === 32 && fits({ baseBits: 4 }) ? ['--base-bits 4'] : []),
  ];
  if (single.length > 0) return `what fits: ${single.join(', or ')}`;
  if (fits({ checkpointing: true, baseBits: 4 }, withRows(spec, 1))) {
    return 'what fits: --micro-batch 1 --gradient-checkpointing --base-bits 4, together';
  }
  const fewer = others.length > 0 ? 'name fewer devices in --engine, ' : '';
  return `${fewer}use shorter rows (--sequence-length), a smaller model, or a machine with more memory`;
}

/** " in 2 trainer processes": for messages. */
export function inTrainers({ trainers }: Pick<RunMemory, 'trainers'>): string {
  return trainers === 1 ? '' : ` in ${trainers} trainer processes`;
}

function withRows(spec: TrainSpec, microBatch: number): TrainSpec {
  return { ...spec, training: { ...spec.training, microBatch } };
}
