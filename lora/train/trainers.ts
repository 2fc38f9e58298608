/** The trainer processes of a run or a node: one for each device that shares its batches. */
import type { EngineChoice } from '../engines/names.ts';
import type { BaseBits } from '../models/base-bits.ts';
import type { MemoryEstimate } from './estimate.ts';

/** What trainer processes hold at one time. */
export interface Trainers {
  readonly processes: number;
  /** Copies of the base in memory. */
  readonly bases: number;
  /** Of each copy. */
  readonly baseBits: BaseBits;
}

export const ONE_TRAINER: Trainers = { processes: 1, bases: 1, baseBits: 32 };

type Devices = readonly { engine: EngineChoice }[];

/**
 * onnxruntime maps the file of float32 weights, so all its processes share one copy, those on a GPU too: its weights
 * pass through these pages. Packed weights of fewer bits and TensorFlow's are each process's own. What lies in a
 * device's own memory cannot be told from here (processors share theirs with some GPUs) and is counted, which errs
 * on the safe side.
 */
export function trainersOn(devices: Devices, baseBits: BaseBits): Trainers {
  const mapping = baseBits === 32 ? devices.filter(({ engine }) => engine !== 'tfjs').length : 0;
  return { processes: devices.length, bases: devices.length - mapping + Math.min(1, mapping), baseBits };
}

/** Whether any of them computes in the machine's memory, of which is known how much there is. */
export function usesProcessor(devices: Devices): boolean {
  return devices.some(onProcessor);
}

/**
 * Bytes of the machine's memory that all trainers take together. Each holds what a process is and an adapter with all that
 * belongs to it; bases as `trainersOn` says. Activations are those of the trainers on the processor, as GPUs have memory
 * of their own; where there are GPUs only they are those of one trainer, since how much a GPU has is not known.
 *
 * @param one what the trainer of a single device takes, on the processor
 */
export function memoryOfTrainers(one: MemoryEstimate, devices: Devices, baseBits: BaseBits): MemoryEstimate {
  const { processes, bases } = trainersOn(devices, baseBits);
  const parts = {
    runtime: processes * one.runtime,
    weights: bases * one.weights,
    activations: Math.max(1, devices.filter(onProcessor).length) * one.activations,
    adapter: processes * one.adapter,
  };
  return { ...parts, total: Object.values(parts).reduce((sum, bytes) => sum + bytes, 0) };
}

/** Rows at a time of each trainer. */
export interface SharedBatch {
  readonly microBatch: number;
  /** For people, where they are fewer than they would be on one device: why. Else null. */
  readonly reason: string | null;
}

/**
 * Parts of a batch are whole micro-batches: where there are fewer of these than devices, what each device would have of an
 * equal share is one, so that none waits. Where that leaves one without, as 9 rows over 4 in threes do, it is rounded down.
 * Loss and gradients stay what they were, up to rounding; dropout and noise are drawn for other micro-batches.
 */
export function shareBatch(
  { batchSize, microBatch }: { batchSize: number; microBatch: number },
  devices: number,
): SharedBatch {
  const parts = (rows: number): number => Math.ceil(batchSize / rows);
  // One row is the least, and then some devices have nothing to do.
  const busy = Math.min(devices, batchSize);
  if (parts(microBatch) >= busy) return { microBatch, reason: null };
  const share = Math.ceil(batchSize / busy);
  const rows = parts(share) >= busy ? share : Math.floor(batchSize / busy);
  const have =
    busy === devices ? `each of the ${devices} devices has` : `${busy} of the ${devices} devices have`;
  return {
    microBatch: rows,
    reason: `${rows} of a batch's ${batchSize} rows, so that ${have} a part of it`,
  };
}

/** "rows at a time: 4 of …" */
export function shareLine(reason: string): string {
  return `rows at a time: ${reason}`;
}

function onProcessor({ engine }: { engine: EngineChoice }): boolean {
  return engine === 'onnx-cpu';
}
