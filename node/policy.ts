import { BASE_BITS, estimatedBaseBytes } from '../lora/models/base-bits.ts';
import { ONE_TRAINER, type Trainers } from '../lora/train/trainers.ts';
import type { Manifest } from '../protocol/manifest.ts';
import { nodeError } from './errors.ts';

/**
 * What the owner of a machine lends. The node decides by it alone: no manifest can ask for more.
 * Sizes are in bytes.
 */
export interface NodePolicy {
  /** Greatest base model, as it is downloaded. @default 32 GiB */
  maxBaseBytes: number;
  /** Base, its fp32 copy, data and adapter files together. @default 100 GiB */
  maxDiskBytes: number;
  /**
   * Weights, adapter, gradients and moments of all trainer processes, and a round's rows; activations come on top.
   * @default Infinity (the daemon sets the machine's)
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
/** Values, gradients, two moments. */
const TRAINER_ADAPTERS = 4;
/** Adapter, change, error feedback, what is being encoded. */
const DAEMON_ADAPTERS = 4;
/** Error feedback, moments (two), adapter and its successor, updates under way. */
const ADAPTER_FILES = 6;
/** The daemon draws a round's rows, the trainer gets them. */
const ROW_COPIES = 2;
/** Where a row lies and what holds it, beside its tokens (113 bytes measured). */
const ROW_OVERHEAD_BYTES = 128;
/** Id and label of 4 bytes, segment of 2. */
const TOKEN_BYTES = 10;

/**
 * What a job takes from a machine, as far as its manifest tells, in bytes. On disk a base counts with a copy in float32,
 * which is no less than those of fewer bits together: a node that is started with other bits keeps the copies of before.
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

/** @throws SwarmError POLICY_BASE, POLICY_DISK, POLICY_MEMORY: the job wants more than the machine's owner lends */
export function checkPolicy(manifest: Manifest, policy: NodePolicy, trainers: Trainers = ONE_TRAINER): void {
  const demand = demandOf(manifest, trainers);
  const checks = [
    ['POLICY_BASE', 'a base model', demand.base, policy.maxBaseBytes, '--max-base'],
    ['POLICY_DISK', 'disk space', demand.disk, policy.maxDiskBytes, '--max-disk'],
    ['POLICY_MEMORY', 'memory', demand.memory, policy.maxMemoryBytes, '--max-memory'],
  ] as const;
  for (const [code, what, needed, allowed, option] of checks) {
    if (needed <= allowed) continue;
    const isMemory = code === 'POLICY_MEMORY';
    const wanted = `${what} of ${gibibytes(needed)}${isMemory ? forTrainers(trainers) : ''}`;
    const fewer = isMemory ? fewerBitsThatFit(manifest, trainers, allowed) : '';
    throw nodeError(
      code,
      `the job "${manifest.name}" needs ${wanted}, this node lends ${gibibytes(allowed)}; raise ${option}, ${fewer}or choose another job`,
      { needed, allowed, job: manifest.name },
    );
  }
}

function forTrainers({ processes, bases }: Trainers): string {
  if (processes === 1) return '';
  return ` for ${processes} trainer processes with ${bases === 1 ? 'one copy' : `${bases} copies`} of the base (fewer names in --engine take less)`;
}

/** "take --base-bits 8 (0.50 GiB), ": the most bits below these with which the job fits; '' where none do. */
function fewerBitsThatFit(manifest: Manifest, { processes, baseBits }: Trainers, allowed: number): string {
  for (const bits of BASE_BITS.filter((bits) => bits < baseBits)) {
    // Packed, a base is each process's own.
    const { memory } = demandOf(manifest, { processes, bases: processes, baseBits: bits });
    if (memory <= allowed) return `take --base-bits ${bits} (${gibibytes(memory)}), `;
  }
  return '';
}

function gibibytes(bytes: number): string {
  const value = bytes / GiB;
  return `${value < 0.1 ? value.toPrecision(2) : value.toFixed(2)} GiB`;
}
