/** Whether a trainer computes its forward pass twice to save memory. Results are the same bits either way. */
import type { EngineName } from '../engines/names.ts';
import type { BaseBits } from '../models/base-bits.ts';
import { fitsMemory } from './estimate.ts';
import { usesProcessor } from './trainers.ts';

/** What a user may ask for. */
export type CheckpointingChoice = boolean | 'auto';

export interface Checkpointing {
  readonly checkpointing: boolean;
  /** For people, where it is on and nobody asked for it: why. Else null. */
  readonly reason: string | null;
}

export interface CheckpointingMachine {
  /** All that share a batch, each with a trainer process of its own. */
  readonly devices: readonly { engine: EngineName }[];
  readonly baseBits: BaseBits;
  /** Bytes of the system's memory that the training may take. */
  readonly available: number;
  /** Bytes of it that all trainers take together, with or without. */
  readonly takes: (checkpointing: boolean) => number;
}

/**
 * `auto` is on with a base of 4 bits, which is chosen for memory, and where on the processor the training does not fit into
 * this machine's memory without it. With it, it may not either: then less is missing, of what is to spare above all.
 */
export function decideCheckpointing(
  asked: CheckpointingChoice,
  { devices, baseBits, available, takes }: CheckpointingMachine,
): Checkpointing {
  if (asked !== 'auto') return { checkpointing: asked, reason: null };
  if (baseBits === 4) return { checkpointing: true, reason: 'as a base of 4 bits is for little memory' };
  // What a GPU has of its own is not known before it is full; then it is turned on, too (see lighter.ts).
  if (!usesProcessor(devices)) return { checkpointing: false, reason: null };
  const without = takes(false);
  if (fitsMemory(without, available)) return { checkpointing: false, reason: null };
  return {
    checkpointing: true,
    reason: `without it ${devices.length === 1 ? 'this' : `${devices.length} trainers`} would take ${gigabytes(without)} and a quarter to spare, of ${gigabytes(available)} available`,
  };
}

/** "gradient checkpointing: on, as …" */
export function checkpointingLine(reason: string): string {
  return `gradient checkpointing: on, ${reason}`;
}

/** In the unit of all that is told of memory before a run. */
function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
