/** Memory of the trainer processes of a run or a node. Each device that shares the batches has one process. */
import type { BaseBits } from '../../models/base/base-bits.ts';
import type { Compute, ComputeOnDevices } from '../compute.ts';
import type { MemoryEstimate } from './estimate.ts';

/** Number of trainer processes, and of the copies of the base that they hold in memory together. */
export interface Trainers {
  readonly processes: number;
  /** Number of copies of the base that all trainer processes together hold in memory. */
  readonly bases: number;
  /** Base bits of these copies. */
  readonly baseBits: BaseBits;
}

export const ONE_TRAINER: Trainers = { processes: 1, bases: 1, baseBits: 32 };

/**
 * Counts processes and copies of the base. With a float32 base, all processes of onnxruntime map the file of
 * weights, so they share one copy, even those that then load the weights onto a GPU. With an 8-bit or 4-bit
 * base, each process packs its own copy of the weights. A TensorFlow process always holds its own copy.
 * Processes on a GPU are counted too, because some GPUs share the processor's memory, and an estimate
 * that is too high is safer than one that is too low.
 */
export function trainersOf({ devices, baseBits }: Pick<Compute, 'devices' | 'baseBits'>): Trainers {
  if (devices === 'auto') return { ...ONE_TRAINER, baseBits };
  const sharing = baseBits === 32 ? devices.filter(({ engine }) => engine !== 'tfjs').length : 0;
  return { processes: devices.length, bases: devices.length - sharing + Math.min(1, sharing), baseBits };
}

/** Returns whether any device computes in the machine's own memory, whose size is known. */
export function usesProcessor({ devices }: Pick<ComputeOnDevices, 'devices'>): boolean {
  return processorsIn(devices) > 0;
}

/**
 * Returns the bytes of the machine's memory that all trainers take together. Every process holds its runtime and an
 * adapter with optimiser state. Activations count for each trainer on the processor. If all devices are GPUs, the
 * activations of one trainer count, because a GPU may share the processor's memory, and an estimate that is too high
 * is safer than one that is too low.
 *
 * @param one the estimate for a single trainer on the processor, in bytes
 */
export function memoryOfTrainers(
  one: MemoryEstimate,
  compute: Pick<ComputeOnDevices, 'devices' | 'baseBits'>,
): MemoryEstimate {
  const { processes, bases } = trainersOf(compute);
  const parts = {
    runtime: processes * one.runtime,
    weights: bases * one.weights,
    activations: Math.max(1, processorsIn(compute.devices)) * one.activations,
    adapter: processes * one.adapter,
  };
  return { ...parts, total: Object.values(parts).reduce((sum, bytes) => sum + bytes, 0) };
}

function processorsIn(devices: ComputeOnDevices['devices']): number {
  return devices.filter(({ engine }) => engine === 'onnx-cpu').length;
}
