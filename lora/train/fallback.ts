/** What to start a trainer with after a device has failed it: less at a time, or another engine. */
import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import type { Device, EngineChoice, EngineName } from '../engines/names.ts';
import type { Precision } from '../engines/precision.ts';
import type { CheckpointingChoice } from './checkpointing.ts';

/** What of a trainer's settings may change without changing what is trained. */
export interface Load {
  readonly engine: EngineName;
  /** Rows of a run of the graph; an optimiser step takes as many runs as its batch needs. */
  readonly microBatch: number;
  /** Whether the forward pass is computed twice. */
  readonly checkpointing: boolean;
}

export interface Lighter extends Load {
  /** For people: what happened and what is done about it. */
  readonly because: string;
}

/** Errors that may be the device's: anything else is as wrong with less load. */
const OF_THE_DEVICE = new Set(['TRAINER_DIED', 'ENGINE_COMPILE', 'ENGINE_RUN']);
// WebGPU has a largest buffer, and larger tensors take several; a kernel may have so many.
const OUT_OF_MEMORY =
  /out.of.memory|bad_alloc|alloc\w* (failed|error)|fail\w* to alloc|exceed\w* .*(limit|size|memory)|too many storage buffers/i;
/** SIGKILL is what a system out of memory sends; an allocation that fails in native code ends in an abort. */
const MEMORY_SIGNALS = new Set(['SIGKILL', 'SIGABRT']);

/**
 * The next thing to try where memory ran out: gradient checkpointing, unless it was asked to stay off, as the results are the
 * same bits; then half the micro-batch, as the effective batch stays the same. Else, or where one row was too much, the
 * processor with as many rows as were asked for. Null when nothing lighter is left, or when the error is none of the device's.
 */
export function lighter(
  asked: { engine: EngineChoice; microBatch: number; checkpointing: CheckpointingChoice },
  now: Load,
  error: unknown,
): Lighter | null {
  if (!isSwarmError(error)) return null;
  if (error.code === 'ENGINE_EXHAUSTED') {
    // A new process is all it takes.
    return { ...now, because: `${error.message}; continuing in a new trainer process` };
  }
  // What `auto` once measured may have gone since; who names an engine is told that it is not there.
  const gone = error.code === 'ENGINE_UNAVAILABLE' && asked.engine === 'auto';
  if (!gone && !OF_THE_DEVICE.has(error.code)) return null;
  const what = `with ${now.microBatch === 1 ? 'one row' : `${now.microBatch} rows`} at a time on ${now.engine}: ${error.message}`;
  const noMemory = isOutOfMemory(error);
  if (noMemory && !now.checkpointing && asked.checkpointing !== false) {
    const because = `${what}; going on with gradient checkpointing, which takes less and gives the same result`;
    return { ...now, checkpointing: true, because };
  }
  if (noMemory && now.microBatch > 1) {
    const microBatch = Math.floor(now.microBatch / 2);
    const because = `${what}; going on with ${microBatch} at a time, in batches as before`;
    return { ...now, microBatch, because };
  }
  if (now.engine === 'onnx-cpu') return null;
  const because = `${what}; going on with onnx-cpu`;
  return { ...now, engine: 'onnx-cpu', microBatch: asked.microBatch, because };
}

interface Devices {
  readonly engine?: EngineName;
  readonly device?: number;
  readonly alongside?: readonly Device[];
  readonly precision?: Precision;
}

/** The devices that go on where another engine takes over: that one alone, in the precision that every engine has. */
export function onlyOn(engine: EngineName, devices: Devices): Devices & { engine: EngineName } {
  const { device, alongside, precision } = devices;
  return engine === devices.engine
    ? { engine, device, alongside, precision }
    : { engine, device: undefined, alongside: [], precision: 'float32' };
}

function isOutOfMemory({ code, message, values }: SwarmError): boolean {
  if (code === 'TRAINER_DIED') return MEMORY_SIGNALS.has(String(values.signal));
  return OUT_OF_MEMORY.test(message);
}
