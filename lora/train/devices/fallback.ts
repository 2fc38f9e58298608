/** The fallback with which a trainer restarts after its device failed: settings that need less memory, or another engine. */
import { isSwarmError, type SwarmError } from '../../../common/errors.ts';
import { deviceName } from '../../engines/names.ts';
import type { Compute, ResolvedCompute } from '../compute.ts';

/** Settings of a trainer that a fallback may change, because they do not change what is trained. */
export interface Workload {
  readonly compute: ResolvedCompute;
  /** Number of rows that pass through the model at once. An optimiser step takes as many passes as its batch needs. */
  readonly microBatch: number;
}

/** A fallback, and why it is needed. */
export interface Fallback extends Workload {
  /** The failure, and the change with which training continues. */
  readonly reason: string;
}

/**
 * Errors that a device can cause, so a fallback may help. All other errors would occur again with any settings.
 */
const DEVICE_ERRORS = new Set(['TRAINER_DIED', 'ENGINE_COMPILE', 'ENGINE_RUN']);
// Messages for a lack of memory. "Too many storage buffers" is one of them, because WebGPU splits a tensor that is larger
// than a buffer into several buffers, and limits the number of buffers of a kernel.
const OUT_OF_MEMORY =
  /out.of.memory|bad_alloc|alloc\w* (failed|error)|fail\w* to alloc|exceed\w* .*(limit|size|memory)|too many storage buffers/i;
/** The system sends SIGKILL when memory runs out; a failed allocation in native code ends in SIGABRT. */
const MEMORY_SIGNALS = new Set(['SIGKILL', 'SIGABRT']);
/**
 * Exit codes that count as a lack of memory on Windows, which has no signals. An abort in V8 or Node.js ends with 134.
 * An abort in native code ends with 3 or with the NTSTATUS 0xC0000409, whose name STACK_BUFFER_OVERRUN is misleading.
 * 0xC0000017 is NO_MEMORY. 0xC000012D is COMMITMENT_LIMIT, a full page file.
 */
const MEMORY_EXIT_CODES = new Set([134, 0xc0000409, 3, 0xc0000017, 0xc000012d]);

/** Settings of the last fallback. float32 is the only precision that every engine supports. */
export const PROCESSOR_FALLBACK = {
  devices: [{ engine: 'onnx-cpu' }],
  precision: 'float32',
} as const satisfies Partial<ResolvedCompute>;

/**
 * Returns the settings to try next. If the device ran out of memory, the first fallback is gradient checkpointing,
 * because it does not change the results. It is skipped if the user turned gradient checkpointing off. The next
 * fallback is half the micro-batch, with the same batch size. If a single row needs too much memory, or the device has
 * failed for another reason, the fallback is the processor with the micro-batch of `asked`. After ENGINE_EXHAUSTED the
 * settings stay the same, because a new process is enough.
 * @param asked settings that the user requested. `microBatch`: rows at a time on the processor
 * @param now settings of the failed trainer
 * @returns null when no fallback is left, or when the device did not cause the error
 */
export function fallbackFor(
  asked: { compute: Compute; microBatch: number },
  now: Workload,
  error: unknown,
): Fallback | null {
  if (!isSwarmError(error)) return null;
  const { compute, microBatch } = now;
  const [first] = compute.devices;
  if (error.code === 'ENGINE_EXHAUSTED') {
    return { ...now, reason: `${error.message}; continuing in a new trainer process` };
  }
  // The stored choice of `auto` may be days old, and its GPU may be gone. If the user named the engine instead, a missing
  // device remains an error.
  const gone = error.code === 'ENGINE_UNAVAILABLE' && asked.compute.devices === 'auto';
  if (!gone && !DEVICE_ERRORS.has(error.code)) return null;
  const failed = `${rows(microBatch)} at a time on ${deviceName(first)} failed: ${error.message}`;
  const noMemory = isOutOfMemory(error);
  if (noMemory && !compute.checkpointing && asked.compute.checkpointing !== false) {
    return {
      compute: { ...compute, checkpointing: true },
      microBatch,
      reason: `${failed}; continuing with gradient checkpointing, which needs less memory and gives the same result`,
    };
  }
  if (noMemory && microBatch > 1) {
    const half = Math.floor(microBatch / 2);
    const reason = `${failed}; continuing with ${rows(half)} at a time, in batches of the same size`;
    return { compute, microBatch: half, reason };
  }
  if (first.engine === 'onnx-cpu') return null;
  return {
    compute: { ...compute, ...PROCESSOR_FALLBACK },
    microBatch: asked.microBatch,
    reason: `${failed}; continuing with onnx-cpu`,
  };
}

/** Returns a fallback as values for JSON events and log lines. */
export function fallbackValues({ compute, microBatch, reason }: Fallback) {
  const { devices, checkpointing } = compute;
  return { engine: devices[0].engine, microBatch, checkpointing, because: reason };
}

function rows(count: number): string {
  return count === 1 ? 'one row' : `${count} rows`;
}

function isOutOfMemory({ code, message, values }: SwarmError): boolean {
  if (code === 'TRAINER_DIED') {
    const byCode = process.platform === 'win32' && MEMORY_EXIT_CODES.has(Number(values.code ?? 0));
    return byCode || MEMORY_SIGNALS.has(String(values.signal));
  }
  return OUT_OF_MEMORY.test(message);
}
