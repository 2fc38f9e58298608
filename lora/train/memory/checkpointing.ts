/** Decides whether trainers use gradient checkpointing. The results are bit for bit the same with and without it. */
import type { ComputeOnDevices, ResolvedCompute } from '../compute.ts';
import { fitsMemory } from './estimate.ts';
import { usesProcessor } from './trainers.ts';

export interface MemoryOfMachine {
  /** Bytes of memory that the machine has available. The user's limit `compute.memoryLimit` may be lower. */
  readonly available: number;
  /** Estimates the bytes of memory that all trainers take together. */
  readonly needs: (compute: ResolvedCompute) => number;
}

export interface CheckpointingDecision {
  readonly compute: ResolvedCompute;
  /** Reason why `auto` turned gradient checkpointing on; null if it is off or the user has set it. */
  readonly reason: string | null;
}

/**
 * Resolves `checkpointing: 'auto'`. Gradient checkpointing is on with a 4-bit base, which people choose to save
 * memory. On the processor, it is also on if training does not fit into memory without it. Training may not fit even
 * with it, but the shortfall is smaller.
 */
export function decideCheckpointing(
  compute: ComputeOnDevices,
  { available, needs }: MemoryOfMachine,
): CheckpointingDecision {
  const { checkpointing: choice, baseBits, devices, memoryLimit } = compute;
  const off = { ...compute, checkpointing: false };
  const on = { ...compute, checkpointing: true };
  if (choice !== 'auto') return { compute: choice ? on : off, reason: null };
  if (baseBits === 4) return { compute: on, reason: 'because you chose a 4-bit base to save memory' };
  // The size of a GPU's memory is unknown. If a GPU runs out of memory, fallback.ts turns gradient
  // checkpointing on.
  if (!usesProcessor(compute)) return { compute: off, reason: null };
  const room = Math.min(memoryLimit, available);
  const needed = needs(off);
  if (fitsMemory(needed, room)) return { compute: off, reason: null };
  const who = devices.length === 1 ? 'training' : `${devices.length} trainers`;
  return {
    compute: on,
    reason: `because without it ${who} would need ${gigabytes(needed)} and a quarter more as a reserve, but only ${gigabytes(room)} is available`,
  };
}

/** Returns a line for the user: "gradient checkpointing: on, because …". */
export function checkpointingLine(reason: string): string {
  return `gradient checkpointing: on, ${reason}`;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
