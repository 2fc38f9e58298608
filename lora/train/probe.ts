/** Measures an engine in a process of its own. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { EngineName } from '../engines/names.ts';
import type { MachineSpeed, SpeedOptions } from './speed.ts';

export interface ProbeRequest extends Omit<SpeedOptions, 'signal' | 'float16'> {
  engine: EngineName;
  threads: number;
}

export type ProbeReply =
  | { speed: MachineSpeed }
  | { reason: string; needs: string | null; software: boolean };

export interface EngineProbe {
  readonly engine: EngineName;
  /** null where it does not run, or is not worth running. */
  readonly speed: MachineSpeed | null;
  /** Whether what looked like a GPU is the processor: such a device is used when asked for, never by itself. */
  readonly software: boolean;
  /** Why there is no speed, in the words of the provider. */
  readonly reason: string | null;
  /** What this machine would have to have for it; null where that is not known. */
  readonly needs: string | null;
}

/** A driver may take its time to compile; one that hangs is not waited for. */
const DEADLINE_MS = 60_000;

/** Never fails: an engine that does not run is a result. @throws the signal's reason */
export async function probeEngine({
  signal,
  ...request
}: ProbeRequest & { signal: AbortSignal }): Promise<EngineProbe> {
  signal.throwIfAborted();
  const entry = import.meta.url.endsWith('.ts') ? './probe-process.ts' : './probe-process.js';
  const child = fork(fileURLToPath(new URL(entry, import.meta.url)), {
    execArgv: [],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  const { engine } = request;
  let stderr = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_TAIL);
  });
  let reply: ProbeReply | null = null;
  child.on('message', (message: ProbeReply) => {
    reply = message;
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, DEADLINE_MS);
  const abort = () => child.kill('SIGKILL');
  signal.addEventListener('abort', abort, { once: true });
  try {
    const how = await new Promise<string>((resolve) => {
      child.on('error', (error) => resolve(error.message));
      child.on('close', (code, by) => resolve(by === null ? `code ${code}` : by));
      child.send(request, () => {});
    });
    signal.throwIfAborted();
    const result = (reply as ProbeReply | null) ?? {
      reason: late
        ? `measuring it took more than ${DEADLINE_MS / 1000} seconds`
        : `the process that measured it ended with ${how}`,
      needs: null,
      software: false,
    };
    if ('speed' in result) return { engine, ...result, software: false, reason: null, needs: null };
    return { engine, speed: null, ...result, reason: missingLibrary(stderr) ?? result.reason };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  }
}

const STDERR_TAIL = 16_000;

/** onnxruntime throws "Failed to load shared library", Dawn "No supported adapters": which library it was they write to their log. */
function missingLibrary(log: string): string | null {
  const [, message] =
    /(?:Failed to load library \S+ with error|Couldn't load Vulkan): ([^\n]+)/.exec(log) ?? [];
  // Colours of a terminal.
  return message?.replace(new RegExp(`${String.fromCharCode(27)}\\[[\\d;]*m`, 'g'), '').trim() ?? null;
}
