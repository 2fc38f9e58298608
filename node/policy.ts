import { BASE_BITS, estimatedBaseBytes } from '../lora/models/base/base-bits.ts';
import { ONE_TRAINER, type Trainers } from '../lora/train/memory/trainers.ts';
import type { Manifest } from '../protocol/manifest.ts';
import { nodeError } from './errors.ts';

/** Limits on what the owner of a machine lends, in bytes. The node refuses a job that needs more. */
export interface NodePolicy {
  /** Limit of the size of the base model's files. @default 32 GiB */
  maxBaseBytes: number;
  /** Limit of the disk space for the base, its float32 copy, the data and the adapter together. @default 100 GiB */
  maxDiskBytes: number;
  /**
   * Limit of the memory for weights, adapter, gradients and moments of all trainer processes, and for a round's rows.
   * Activations are not counted.
   * @default Infinity (the daemon sets four fifths of the machine's memory)
   */
  maxMemoryBytes: number;
}

const GiB = 1024 ** 3;

export const defaultPolicy: NodePolicy = {
  maxBaseBytes: 32 * GiB,
  maxDiskBytes: 100 * GiB,
  maxMemoryBytes: Number.POSITIVE_INFINITY,
};

const FLOAT_BYTES = 4;
/** Number of copies of the adapter in a trainer: values, gradients, two moments. */
const TRAINER_ADAPTERS = 4;
/**
 * Number of copies of the adapter in the daemon: adapter, pseudo-gradient, error feedback, the update being encoded.
 */
const DAEMON_ADAPTERS = 4;
/**
 * Disk space for a job's adapter and updates, as a multiple of the adapter's size: one for the error feedback, two for
 * the moments, two for the adapter and its successor, and one for all pending updates.
 */
const ADAPTER_FILES = 6;
/** Number of copies of a round's rows: one in the daemon, and one in the trainer. */
const ROW_COPIES = 2;
/** Memory of a row in addition to its tokens, for its index and its array objects. 113 bytes were measured. */
const ROW_OVERHEAD_BYTES = 128;
/** Bytes of a token in a row: 4 for its id, 4 for its label, 2 for its segment. */
const TOKEN_BYTES = 10;

/**
 * Returns the bytes that a job needs from a machine, computed from its manifest. The disk space includes a float32 copy
 * of the base. A node with 8 or 4 base bits keeps a smaller copy instead.
 */
export function demandOf(
  manifest: Manifest,
  trainers: Trainers = ONE_TRAINER,
): { base: number; disk: number; memory: number } {
  const sum = (sizes: readonly { size: number }[]): number =>
    sizes.reduce((total, { size }) => total + size, 0);
  const base = sum(manifest.base.files);
  const { parameters } = manifest.base;
  const adapter = manifest.adapter.parameters * FLOAT_BYTES;
  const data = sum(manifest.data.shards);
  const rows = manifest.rounds.localSteps * manifest.training.batchSize;
  const tokens = Math.min(data, rows * manifest.data.sequenceLength * TOKEN_BYTES);
  return {
    base,
    disk: base + parameters * FLOAT_BYTES + data + ADAPTER_FILES * adapter,
    memory:
      trainers.bases * estimatedBaseBytes(parameters, trainers.baseBits) +
      (DAEMON_ADAPTERS + trainers.processes * TRAINER_ADAPTERS) * adapter +
      ROW_COPIES * tokens +
      rows * ROW_OVERHEAD_BYTES,
  };
}

/** @throws SwarmError POLICY_BASE, POLICY_DISK, POLICY_MEMORY if the job needs more than the machine's owner lends */
export function checkPolicy(manifest: Manifest, policy: NodePolicy, trainers: Trainers = ONE_TRAINER): void {
  const demand = demandOf(manifest, trainers);
  const checks = [
    ['POLICY_BASE', 'a base model', demand.base, policy.maxBaseBytes],
    ['POLICY_DISK', 'disk space', demand.disk, policy.maxDiskBytes],
    ['POLICY_MEMORY', 'memory', demand.memory, policy.maxMemoryBytes],
  ] as const;
  for (const [code, what, needed, allowed] of checks) {
    if (needed <= allowed) continue;
    const isMemory = code === 'POLICY_MEMORY';
    const processes = isMemory ? forTrainers(trainers) : '';
    throw nodeError(
      code,
      `the job "${manifest.name}" needs ${what} of ${gibibytes(needed)}${processes}; this node lends ${gibibytes(allowed)}`,
      { needed, allowed, job: manifest.name },
      isMemory ? { next: memoryAdvice(manifest, trainers, allowed) } : {},
    );
  }
}

function forTrainers({ processes, bases }: Trainers): string {
  if (processes === 1) return '';
  return ` for ${processes} trainer processes with ${bases === 1 ? 'one copy' : `${bases} copies`} of the base`;
}

/**
 * Returns advice that lists the ways to make the job fit into the memory limit. If fewer base bits are enough, the list
 * names the largest number of bits with which the job fits.
 */
function memoryAdvice(manifest: Manifest, { processes, baseBits }: Trainers, allowed: number): string {
  const ways = ['raise --max-memory'];
  if (processes > 1) ways.push('name fewer devices in --engine');
  const fitting = BASE_BITS.filter((bits) => bits < baseBits)
    // Each process needs its own copy of a base with 8 or 4 bits.
    .map((bits) => ({ bits, ...demandOf(manifest, { processes, bases: processes, baseBits: bits }) }))
    .find(({ memory }) => memory <= allowed);
  if (fitting) ways.push(`pass --base-bits ${fitting.bits} (needs ${gibibytes(fitting.memory)})`);
  return `${ways.join(', ')}, or choose another job`;
}

function gibibytes(bytes: number): string {
  const value = bytes / GiB;
  return `${value < 0.1 ? value.toPrecision(2) : value.toFixed(2)} GiB`;
}
