import type { BaseBits } from '../../lora/models/base-bits.ts';
import type { ModelShape } from '../../lora/models/targets.ts';
import { estimateTraining, type MemoryEstimate } from '../../lora/train/estimate.ts';
import { trainingConfig } from './run.ts';
import type { TrainSpec } from './settings.ts';

/** Bytes of a run in its two processes. */
export interface RunMemory extends MemoryEstimate {
  /** This process: it holds the adapter, moments while it writes them, and the rows of some steps. */
  readonly command: number;
}

/** What `swarm train` itself holds, measured. */
const COMMAND_BYTES = 130 * 2 ** 20;
const COMMAND_SETS = 5;

/** From the shapes in the model's config alone. @throws LORA_*, MODEL_SEQUENCE_TOO_LONG */
export function memoryOf(
  model: ModelShape,
  spec: TrainSpec,
  { checkpointing = false, baseBits = 32 }: { checkpointing?: boolean; baseBits?: BaseBits } = {},
): RunMemory {
  const settings = { lora: spec.lora, training: trainingConfig(spec, 1), checkpointing, baseBits };
  const { memory, work } = estimateTraining(model, settings);
  const command = COMMAND_BYTES + COMMAND_SETS * 4 * work.parameters;
  return { ...memory, command, total: memory.total + command };
}

/** Bytes that this process and its children may still take, by the system's free memory and its container's limit. */
export function availableMemory(): number {
  return process.availableMemory();
}
