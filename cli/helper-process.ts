import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import type { SwarmError } from '../common/errors.ts';
import { safeText } from '../common/text.ts';
import type { Context } from './context.ts';
import { cliError } from './error-codes.ts';

/** What is shown of a process that failed. */
const LAST_LINES = 12;
/** A little more than a daemon takes to drain. */
const STOP_MS = 6_000;

export interface HelperOptions {
  /** For people: "coordinator", "node otter". */
  name: string;
  /** Arguments of `swarm`; `--json` is among them, so that its output can be read. */
  arguments: readonly string[];
  /** Everything it prints. */
  logFile: string;
}

/**
 * Another `swarm` as a child of this one. It leads a process group of its own, so that Ctrl-C reaches it only through
 * us, in order; and it has an IPC channel, by whose end it notices our death, however sudden.
 */
export class HelperProcess {
  readonly name: string;
  /** Settles when it has ended, with what it ended with. */
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
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    // An open channel must not keep us alive when all is done.
    this.#child.channel?.unref();
    createInterface({ input: this.#child.stdout! }).on('line', (line) => this.#read(line, true));
    createInterface({ input: this.#child.stderr! }).on('line', (line) => this.#read(line, false));
    this.exited = new Promise((resolve) => {
      const end = (code: number | null, signal: string | null): void => {
        this.#ended = true;
        // Whoever hears of the end may look into the log.
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

  /** Its last lines, for people. */
  get lastLines(): readonly string[] {
    return this.#lines;
  }

  /** Calls back with each JSON line of its output that has an `event`. */
  onEvent(listener: (event: Record<string, unknown>) => void): void {
    this.#listeners.add(listener);
  }

  /**
   * The first event of that name.
   * @throws SwarmError HELPER_FAILED when it ends before, with its last lines in `values`; the signal's reason
   */
  async first(event: string, { signal }: { signal: AbortSignal }): Promise<Record<string, unknown>> {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      this.onEvent((found) => {
        if (found.event === event) resolve(found);
      });
      void this.exited.then(({ code, signal: killed }) => reject(this.failure(code, killed)));
    });
  }

  failure(code: number | null, signal: string | null): SwarmError {
    const how = signal === null ? `ended with exit code ${code}` : `was killed by ${signal}`;
    return cliError('HELPER_FAILED', `the ${this.name} process ${how}`, {
      process: this.name,
      code,
      signal,
      lines: this.#lines.map((line) => safeText(line)),
    });
  }

  /** Asks it to drain, and ends its whole process group when it has not in time. Idempotent. */
  async stop(): Promise<void> {
    if (this.#ended) return;
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.kill(), STOP_MS);
    await this.exited;
    clearTimeout(timer);
    // Its trainer, had it been left behind, is in the same group.
    this.kill();
  }

  /** Ends it and whatever it has started, at once. For the moment before our own end. */
  kill(): void {
    if (this.#child.pid === undefined) return;
    try {
      if (process.platform === 'win32') this.#child.kill('SIGKILL');
      else process.kill(-this.#child.pid, 'SIGKILL');
    } catch {
      // The group is gone already.
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
      // Not an event; it is in the log.
    }
  }
}
