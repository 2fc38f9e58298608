import { countOf } from '../../common/text.ts';
import { BASE_BITS, estimatedBaseBytes } from '../../lora/models/base/base-bits.ts';
import { RUNTIME_BYTES } from '../../lora/train/memory/estimate.ts';
import { ONE_TRAINER, type Trainers } from '../../lora/train/memory/trainers.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import { nodeError } from '../errors.ts';

/** Limits on what the owner of a machine lends, in bytes. The node refuses a job that needs more. */
export interface NodePolicy {
  /** Maximum size of the base model's files. @default 32 GiB */
  maxBaseBytes: number;
  /** Maximum disk space for the base, its float32 copy, the data and the adapter together. @default 100 GiB */
  maxDiskBytes: number;
  /**
   * Maximum memory for the node's own process, for all trainer processes, and in them for weights, adapter, gradients,
   * moments and a round's rows. A job is not refused because of its activations, which are not known before the node has
   * the base. The trainer then makes the micro-batch smaller until training on the processor fits with its activations.
   * @default Infinity (the daemon sets four fifths of the machine's memory, in which the processes themselves do not
   *   count)
   */
  maxMemoryBytes: number;
}

/** The limits of an owner, and what counts in them besides the jobs. */
export interface JobLimits extends NodePolicy {
  /**
   * Returns the memory of the node's own process without the data of jobs, in bytes. It counts in `maxMemoryBytes`, as
   * does the memory of trainer processes that have loaded nothing. Returns null if neither counts, because the owner has
   * set no limit. The rest of the machine's memory is then for the processes themselves.
   * @default null
   */
  readonly processBytes?: () => number | null;
}

const GiB = 1024 ** 3;

export const defaultPolicy: NodePolicy = {
  maxBaseBytes: 32 * GiB,
  maxDiskBytes: 100 * GiB,
  maxMemoryBytes: Number.POSITIVE_INFINITY,
};

const FLOAT_BYTES = 4;
/** Number of copies of the adapter that a trainer holds: the values, the gradients and two moments. */
const TRAINER_ADAPTERS = 4;
/**
 * Number of copies of the adapter that the daemon holds: the adapter, the pseudo-gradient, the error feedback, and the
 * update that is being encoded.
 */
const DAEMON_ADAPTERS = 4;
/**
 * Number of further copies that the daemon of a node with several jobs holds while a round waits for another job. The
 * daemon then holds the two optimiser moments before the round and the two moments after its last step, which are four
 * copies. Two of the {@link DAEMON_ADAPTERS}, the pseudo-gradient and the update, do not exist yet, so only two copies
 * are added.
 */
const WAITING_ADAPTERS = 2;
/**
 * Disk space for a job's adapter and updates, as a multiple of the adapter's size: one for the error feedback, two for
 * the moments, two for the adapter and its successor, and one for all pending updates.
 */
const ADAPTER_FILES = 6;
/** Number of copies of the adapter that a process for an evaluation holds: the values, and the inputs of the engine. */
const EVALUATION_ADAPTERS = 2;
/** Memory of a row in addition to its tokens, for its index and its array objects. 113 bytes were measured. */
const ROW_OVERHEAD_BYTES = 128;
/** Bytes of a token in a row: 4 for its id, 4 for its label, 2 for its segment. */
const TOKEN_BYTES = 10;

interface Demand {
  base: number;
  disk: number;
  memory: number;
}

/**
 * Returns the bytes that a job needs from a machine, computed from its manifest. The disk space includes a float32 copy
 * of the base. A node with 8 or 4 base bits keeps a smaller copy instead.
 * @param others manifests of the jobs that the node trains at the same time. The results are the disk space and memory
 *   of all jobs together. A base or data that several jobs share counts once. The trainer holds one job at a time, so
 *   its memory is what the largest job needs.
 */
export function demandOf(
  manifest: Manifest,
  trainers: Trainers = ONE_TRAINER,
  others: readonly Manifest[] = [],
): Demand {
  const manifests = [manifest, ...others];
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  const sizeOf = (files: readonly { size: number }[]): number => sum(files.map(({ size }) => size));
  const adapterOf = ({ adapter }: Manifest): number => adapter.parameters * FLOAT_BYTES;
  const bases = new Map(
    manifests.map(({ base }) => [base.digest, sizeOf(base.files) + base.parameters * FLOAT_BYTES]),
  );
  const shards = new Map(
    manifests.flatMap(({ data }) => data.shards.map(({ digest, size }) => [digest, size])),
  );
  const inTrainer = manifests.map((one) => {
    const weights = trainers.bases * estimatedBaseBytes(one.base.parameters, trainers.baseBits);
    return weights + trainers.processes * TRAINER_ADAPTERS * adapterOf(one) + tokenBytesOf(one);
  });
  const copies = DAEMON_ADAPTERS + (others.length > 0 ? WAITING_ADAPTERS : 0);
  const inDaemon = manifests.map((one) => {
    const rows = one.rounds.localSteps * one.training.batchSize;
    return copies * adapterOf(one) + tokenBytesOf(one) + rows * ROW_OVERHEAD_BYTES;
  });
  return {
    base: sizeOf(manifest.base.files),
    disk:
      sum([...bases.values()]) +
      sum([...shards.values()]) +
      ADAPTER_FILES * sum(manifests.map((one) => adapterOf(one))),
    memory: Math.max(...inTrainer) + sum(inDaemon),
  };
}

/** Returns the bytes of one copy of a round's rows. The daemon has one copy, and the trainer another. */
function tokenBytesOf({ rounds, training, data }: Manifest): number {
  const shards = data.shards.reduce((total, { size }) => total + size, 0);
  return Math.min(shards, rounds.localSteps * training.batchSize * data.sequenceLength * TOKEN_BYTES);
}

/**
 * Returns the memory of a process that evaluates a checkpoint beside the trainer. With 32 base bits, the process and the
 * trainer map the same file of weights. With fewer bits, the process makes its own copy. Activations are not counted.
 */
export function evaluationBytes({ base, adapter }: Manifest, { baseBits }: Trainers): number {
  const weights = baseBits === 32 ? 0 : estimatedBaseBytes(base.parameters, baseBits);
  return RUNTIME_BYTES + weights + EVALUATION_ADAPTERS * adapter.parameters * FLOAT_BYTES;
}

interface PolicyCheck {
  /** @default one trainer process */
  readonly trainers?: Trainers | undefined;
  /** Manifests of the node's other jobs. @default none */
  readonly others?: readonly Manifest[];
  /** Whether the node also evaluates a checkpoint of the job. @default false */
  readonly evaluates?: boolean;
}

/**
 * @throws SwarmError POLICY_BASE, POLICY_DISK, POLICY_MEMORY if the job, together with the other jobs of the node, needs
 *   more than the machine's owner lends
 */
export function checkPolicy(
  manifest: Manifest,
  policy: JobLimits,
  { trainers = ONE_TRAINER, others = [], evaluates = false }: PolicyCheck = {},
): void {
  const demand = demandOf(manifest, trainers, others);
  const ofJobs = demand.memory + (evaluates ? evaluationBytes(manifest, trainers) : 0);
  const ofProcesses = memoryOfProcesses(policy, trainers);
  const checks = [
    ['POLICY_BASE', 'a base model', demand.base, policy.maxBaseBytes],
    ['POLICY_DISK', 'disk space', demand.disk, policy.maxDiskBytes],
    ['POLICY_MEMORY', 'memory', ofJobs + ofProcesses, policy.maxMemoryBytes],
  ] as const;
  for (const [code, what, needed, allowed] of checks) {
    if (needed <= allowed) continue;
    const isMemory = code === 'POLICY_MEMORY';
    const processes = isMemory ? `${forTrainers(trainers)}${withProcesses(ofProcesses)}` : '';
    const isSum = others.length > 0 && code !== 'POLICY_BASE';
    const together = isSum ? `, together with ${countOf(others.length, 'other job')} of this node,` : '';
    throw nodeError(
      code,
      `the job "${manifest.name}"${together} needs ${what} of ${gibibytes(needed)}${processes}; this node lends ${gibibytes(allowed)}`,
      { needed, allowed, job: manifest.name },
      isMemory ? { next: memoryAdvice({ manifest, others }, trainers, { allowed, ofProcesses }) } : {},
    );
  }
}

/**
 * Returns the bytes that count in the memory limit in addition to the jobs: the node's own process, and its trainer
 * processes before they load anything.
 */
export function memoryOfProcesses({ processBytes }: JobLimits, { processes } = ONE_TRAINER): number {
  const own = processBytes?.() ?? null;
  return own === null ? 0 : own + processes * RUNTIME_BYTES;
}

function withProcesses(bytes: number): string {
  return bytes === 0 ? '' : `, of which the processes of the node need ${gibibytes(bytes)} without any job`;
}

function forTrainers({ processes, bases }: Trainers): string {
  if (processes === 1) return '';
  return ` for ${processes} trainer processes with ${bases === 1 ? 'one copy' : `${bases} copies`} of the base`;
}

/**
 * Returns advice that lists the ways to make the job fit into the memory limit. If fewer base bits are enough, the list
 * names the largest number of bits with which the job fits.
 */
function memoryAdvice(
  { manifest, others }: { manifest: Manifest; others: readonly Manifest[] },
  { processes, baseBits }: Trainers,
  { allowed, ofProcesses }: { allowed: number; ofProcesses: number },
): string {
  const ways = ['raise --max-memory'];
  if (processes > 1) ways.push('name fewer devices in --engine');
  const fitting = BASE_BITS.filter((bits) => bits < baseBits)
    // Each process needs its own copy of an 8-bit or 4-bit base.
    .map((bits) => {
      const { memory } = demandOf(manifest, { processes, bases: processes, baseBits: bits }, others);
      return { bits, needed: memory + ofProcesses };
    })
    .find(({ needed }) => needed <= allowed);
  if (fitting) ways.push(`pass --base-bits ${fitting.bits} (needs ${gibibytes(fitting.needed)})`);
  return `${ways.join(', ')}, or choose another job`;
}

function gibibytes(bytes: number): string {
  const value = bytes / GiB;
  return `${value < 0.1 ? value.toPrecision(2) : value.toFixed(2)} GiB`;
}
