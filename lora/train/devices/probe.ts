/** Tries or measures an engine in a separate process. */
import { messageOf } from '../../../common/errors.ts';
import { ChildCalls } from '../../../common/workers/child-process.ts';
import { entryOf } from '../../../common/workers/entry.ts';
import { graphProcessEnvironment } from '../../engines/allocator.ts';
import type { Device, EngineName } from '../../engines/names.ts';
import type { MachineSpeed, SpeedOptions } from './speed.ts';

export interface ProbeRequest extends Omit<SpeedOptions, 'signal' | 'float16'> {
  engine: EngineName;
  threads: number;
}

/** Request that only checks whether the device runs. */
export interface TryRequest extends Device {
  threads: number;
}

export interface ProbeFailure {
  reason: string;
  needs: string | null;
  software: boolean;
}

export type ProbeMethods = {
  measure: { request: ProbeRequest; reply: { speed: MachineSpeed; onProcessor: boolean } | ProbeFailure };
  try: { request: TryRequest; reply: { runs: true; float16: boolean; software: boolean } | ProbeFailure };
};

export interface EngineProbe {
  readonly engine: EngineName;
  /** Measured speed; null if the engine does not run, or was not measured. */
  readonly speed: MachineSpeed | null;
  /**
   * Whether the engine found no GPU, but only a driver that computes on the processor. `auto` never chooses
   * such an engine.
   */
  readonly software: boolean;
  /** Whether the engine computes on the processor, although it could use a GPU. @default false */
  readonly onProcessor?: boolean;
  /** Reason why `speed` is null, such as the error message of the engine or of its driver. */
  readonly reason: string | null;
  /** Requirements of the engine that this machine may lack; null if they are unknown. */
  readonly needs: string | null;
}

/** Limit for a probe. Drivers compile for several seconds, so a driver that takes longer than this limit has hung. */
const DEADLINE_MS = 60_000;

/**
 * Measures an engine for about 2 seconds. An engine that does not run is a result, not an error.
 * @throws the signal's reason
 */
export async function probeEngine({
  signal,
  ...request
}: ProbeRequest & { signal: AbortSignal }): Promise<EngineProbe> {
  const { engine } = request;
  const reply = await ask('measure', request, signal);
  if ('speed' in reply) return { engine, software: false, reason: null, needs: null, ...reply };
  return { engine, speed: null, ...reply };
}

/** Tests whether an engine starts on a device, and ends the engine afterwards. @throws the signal's reason */
export function tryDevice({
  signal,
  ...request
}: TryRequest & { signal: AbortSignal }): Promise<ProbeMethods['try']['reply']> {
  return ask('try', request, signal);
}

async function ask<N extends keyof ProbeMethods>(
  method: N,
  request: ProbeMethods[N]['request'],
  signal: AbortSignal,
): Promise<ProbeMethods[N]['reply']> {
  signal.throwIfAborted();
  const child = new ChildCalls<ProbeMethods>(entryOf(import.meta, './probe-process'), {
    env: graphProcessEnvironment(),
    ended: ({ code, signal, cause }) =>
      cause ?? new Error(`the probe's process ended with ${signal ?? `code ${code}`}`),
  });
  const late = AbortSignal.timeout(DEADLINE_MS);
  let result: ProbeMethods[N]['reply'];
  try {
    // Kills the process afterwards, because some drivers crash while they are unloaded.
    result = await child.callOnce(method, request, { signal: AbortSignal.any([signal, late]) });
  } catch (error) {
    signal.throwIfAborted();
    const reason = late.aborted ? `the probe took more than ${DEADLINE_MS / 1000} seconds` : messageOf(error);
    return { reason, needs: null, software: false };
  }
  if (!('reason' in result)) return result;
  // The process has ended, so its standard error is complete.
  return { ...result, reason: missingLibrary((await child.closed).stderr) ?? result.reason };
}

/**
 * Finds the name of a missing library in a process's standard error. The error messages do not name the
 * library: onnxruntime throws "Failed to load shared library", and Dawn throws "No supported adapters".
 */
function missingLibrary(log: string): string | null {
  const [, message] =
    /(?:Failed to load library \S+ with error|Couldn't load Vulkan): ([^\n]+)/.exec(log) ?? [];
  // Removes the escape sequences that colour the text in a terminal.
  return message?.replace(new RegExp(`${String.fromCharCode(27)}\\[[\\d;]*m`, 'g'), '').trim() ?? null;
}
