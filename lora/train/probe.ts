/** Tries or measures an engine in a process of its own. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Device, EngineName } from '../engines/names.ts';
import type { MachineSpeed, SpeedOptions } from './speed.ts';

export interface ProbeRequest extends Omit<SpeedOptions, 'signal' | 'float16'> {
  engine: EngineName;
  threads: number;
}

/** Asks only whether the device runs. */
export interface TryRequest extends Device {
  threads: number;
}

export type ProbeMessage = ({ type: 'measure' } & ProbeRequest) | ({ type: 'try' } & TryRequest);

export interface ProbeFailure {
  reason: string;
  needs: string | null;
  software: boolean;
}

export type ProbeReply =
  | { speed: MachineSpeed; onProcessor: boolean }
  | { runs: true; float16: boolean }
  | ProbeFailure;

export interface EngineProbe {
  readonly engine: EngineName;
  /** null where the engine does not run, or was not measured. */
  readonly speed: MachineSpeed | null;
  /** Whether the GPU that it found is a software driver on the processor. `auto` never chooses one. */
  readonly software: boolean;
  /** Whether an engine that could use a GPU computes on the processor. @default false */
  readonly onProcessor?: boolean;
  /** Why there is no speed, in the provider's words. */
  readonly reason: string | null;
  /** What this machine needs for the engine; null where that is unknown. */
  readonly needs: string | null;
}

/** Drivers compile for several seconds; one that takes longer than this hangs. */
const DEADLINE_MS = 60_000;
const STDERR_TAIL = 16_000;

/**
 * Measures an engine for about 2 seconds. An engine that does not run is a result, not an error.
 * @throws the signal's reason
 */
export async function probeEngine({
  signal,
  ...request
}: ProbeRequest & { signal: AbortSignal }): Promise<EngineProbe> {
  const { engine } = request;
  const reply = await ask({ type: 'measure', ...request }, signal);
  if ('speed' in reply) return { engine, software: false, reason: null, needs: null, ...reply };
  return { engine, speed: null, ...(reply as ProbeFailure) };
}

/** Starts an engine on a device and ends it again. @throws the signal's reason */
export async function tryDevice({
  signal,
  ...request
}: TryRequest & { signal: AbortSignal }): Promise<{ runs: true; float16: boolean } | ProbeFailure> {
  return (await ask({ type: 'try', ...request }, signal)) as { runs: true; float16: boolean } | ProbeFailure;
}

async function ask(message: ProbeMessage, signal: AbortSignal): Promise<ProbeReply> {
  signal.throwIfAborted();
  const entry = import.meta.url.endsWith('.ts') ? './probe-process.ts' : './probe-process.js';
  const child = fork(fileURLToPath(new URL(entry, import.meta.url)), {
    execArgv: [],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let stderr = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_TAIL);
  });
  let reply: ProbeReply | null = null;
  child.on('message', (answer: ProbeReply) => {
    reply = answer;
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, DEADLINE_MS);
  const abort = () => child.kill('SIGKILL');
  signal.addEventListener('abort', abort, { once: true });
  try {
    const end = await new Promise<string>((resolve) => {
      child.on('error', (error) => resolve(error.message));
      child.on('close', (code, by) => resolve(by === null ? `code ${code}` : by));
      child.send(message, () => {});
    });
    signal.throwIfAborted();
    const result = (reply as ProbeReply | null) ?? {
      reason: late
        ? `the probe took more than ${DEADLINE_MS / 1000} seconds`
        : `the probe's process ended with ${end}`,
      needs: null,
      software: false,
    };
    return 'reason' in result ? { ...result, reason: missingLibrary(stderr) ?? result.reason } : result;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  }
}

/**
 * Finds the name of a missing library in a process's standard error. The errors themselves do not name it:
 * onnxruntime throws "Failed to load shared library", Dawn "No supported adapters".
 */
function missingLibrary(log: string): string | null {
  const [, message] =
    /(?:Failed to load library \S+ with error|Couldn't load Vulkan): ([^\n]+)/.exec(log) ?? [];
  // Removes the colours of a terminal.
  return message?.replace(new RegExp(`${String.fromCharCode(27)}\\[[\\d;]*m`, 'g'), '').trim() ?? null;
}
