import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { raceSignal } from 'race-signal';
import { safeText } from '../../common/text.ts';
import type { SwarmError } from '../../index.ts';
import type { Context } from '../context.ts';
import { cliError } from '../error-codes.ts';
import { DRAIN_MESSAGE } from '../signals.ts';

/** The error about a failed process contains this number of lines from the end of the process's output. */
const LAST_LINES = 12;
/**
 * Milliseconds after which a helper process that still runs is killed. The process has DRAIN_MS (5 s) to end its work, and
 * one more second to exit.
 */
const STOP_MS = 6_000;

export interface HelperOptions {
  /** Name of the process that the user sees, such as "coordinator" or "node otter". */
  name: string;
  /** Arguments of `lora-swarm`. They include `--json`, so that the output can be parsed. */
  arguments: readonly string[];
  /** File that receives everything that the process prints. */
  logFile: string;
}

/**
 * Another `lora-swarm` as a child process. The child leads its own process group, so Ctrl-C does not reach it. Instead,
 * this process stops its children in order. When this process dies, even from SIGKILL, the IPC channel closes. The
 * child notices that, and stops too.
 */
export class HelperProcess {
  readonly name: string;
  /** Resolves when the process has ended. */
  readonly exited: Promise<{ code: number | null; signal: string | null }>;
  readonly #child: ChildProcess;
  readonly #log: WriteStream;
  readonly #lines: string[] = [];
  readonly #listeners = new Set<(event: Record<string, unknown>) => void>();
  #ended = false;

  constructor(
    { name, arguments: args, logFile }: HelperOptions,
    { self, cwd, environment }: Pick<Context, 'self' | 'cwd' | 'environment'>,
  ) {
    this.name = name;
    mkdirSync(dirname(logFile), { recursive: true });
    this.#log = createWriteStream(logFile);
    this.#child = spawn(self.node, [self.script, ...args], {
      cwd,
      env: environment,
      detached: true,
      // On Windows, a detached process would open its own console window.
      windowsHide: true,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    // The open channel must not keep this process running.
    this.#child.channel?.unref();
    createInterface({ input: this.#child.stdout! }).on('line', (line) => this.#read(line, true));
    createInterface({ input: this.#child.stderr! }).on('line', (line) => this.#read(line, false));
    this.exited = new Promise((resolve) => {
      const end = (code: number | null, signal: string | null): void => {
        this.#ended = true;
        // First close the log, so that it is complete when `exited` resolves.
        this.#log.end(() => resolve({ code, signal }));
      };
      this.#child.on('error', (error) => {
        this.#read(error.message, false);
        end(null, null);
      });
      this.#child.on('close', end);
    });
  }

  get running(): boolean {
    return !this.#ended;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** The last lines of the output of the process. */
  get lastLines(): readonly string[] {
    return this.#lines;
  }

  /** Calls `listener` with every line of JSON in the output of the process. */
  onEvent(listener: (event: Record<string, unknown>) => void): void {
    this.#listeners.add(listener);
  }

  /**
   * Waits for the first event of this name.
   * @throws SwarmError HELPER_FAILED with the last lines of the process's output if the process ends first; the
   * signal's reason if it aborts
   */
  async first(event: string, { signal }: { signal: AbortSignal }): Promise<Record<string, unknown>> {
    const found = new Promise<Record<string, unknown>>((resolve, reject) => {
      this.onEvent((found) => {
        if (found.event === event) resolve(found);
      });
      void this.exited.then(({ code, signal: killed }) => reject(this.failure(code, killed)));
    });
    return raceSignal(found, signal);
  }

  failure(code: number | null, signal: string | null): SwarmError {
    const how = signal === null ? `ended with exit code ${code}` : `was killed by ${signal}`;
    const lines = this.#lines.map((line) => safeText(line));
    return cliError(
      'HELPER_FAILED',
      `the ${this.name} process ${how}`,
      { process: this.name, code, signal, lines },
      { next: 'read its log in the folder "logs"; if memory ran out, close other programs and try again' },
    );
  }

  /** Asks the process to drain, and kills the whole process group after STOP_MS. Idempotent. */
  async stop(): Promise<void> {
    if (this.#ended) return;
    // Windows has no SIGTERM, and kill() ends a process there immediately. So a message asks the process to drain.
    if (process.platform === 'win32' && this.#child.connected) this.#child.send(DRAIN_MESSAGE);
    else this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.kill(), STOP_MS);
    await this.exited;
    clearTimeout(timer);
    // A trainer that the process started may still run. It is in the same process group, so this call kills
    // the trainer.
    this.kill();
  }

  /** Kills the process and all its children at once. Safe to call while this process exits. */
  kill(): void {
    if (this.#child.pid === undefined) return;
    try {
      // Windows has no process groups. Trainers end there when their parent ends, because that closes their channel.
      if (process.platform === 'win32') this.#child.kill('SIGKILL');
      else process.kill(-this.#child.pid, 'SIGKILL');
    } catch {
      // Ignore the error, because the process group no longer exists.
    }
  }

  #read(line: string, mayBeEvent: boolean): void {
    if (!this.#ended) this.#log.write(`${line}\n`);
    this.#lines.push(line);
    if (this.#lines.length > LAST_LINES) this.#lines.shift();
    if (!mayBeEvent || !line.startsWith('{')) return;
    try {
      const event = JSON.parse(line) as Record<string, unknown>;
      for (const listener of this.#listeners) listener(event);
    } catch {
      // Ignore a line that is not JSON. The log has it already.
    }
  }
}
