import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { childrenOf } from '../../test/utils/children.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const COMMAND = fileURLToPath(new URL('../../cli/swarm.js', import.meta.url));
const CLOCK = new URL('shifted-clock.js', import.meta.url).href;
/** Number of characters that are kept from the end of standard error. */
const STDERR_CHARACTERS = 4000;
/** Exit code of a bug, from docs/exit-codes.md. */
const INTERNAL_EXIT_CODE = 70;

/**
 * Command that starts a daemon without root's right to open every file. Empty if this user is not root, and null if the
 * command does not work here.
 */
export const UNPRIVILEGED = ((): readonly string[] | null => {
  if (process.getuid?.() !== 0) return [];
  const rights = '-dac_override,-dac_read_search';
  const command = ['setpriv', `--bounding-set=${rights}`, `--inh-caps=${rights}`];
  return spawnSync(command[0]!, [...command.slice(1), 'true']).status === 0 ? command : null;
})();

/** Running processes. This program kills them when it exits, even if it is interrupted. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** The end of a process. `code` is the error code that the process printed; null if it printed no code. */
export interface Ending {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly code: string | null;
}

/** A process of `lora-swarm`. Each start of a daemon is a new object. */
export class Daemon {
  readonly exited: Promise<Ending>;
  /** null while the process runs. */
  ending: Ending | null = null;
  /** Whether this program has killed the process. */
  killed = false;
  readonly #process: ChildProcess;
  #stderr = '';
  #code: string | null = null;
  readonly #ready = Promise.withResolvers<boolean>();

  /** @param clockFile file with the number of milliseconds by which the clock of the process is wrong */
  constructor(args: readonly string[], { clockFile, ...environment }: Record<string, string>) {
    const [program, ...rest] = [...(UNPRIVILEGED ?? []), process.execPath, COMMAND, ...args];
    this.#process = spawn(program!, rest, {
      cwd: ROOT,
      env: {
        ...process.env,
        // The engine is given, because nodes that measure the speed of engines at the same time would disturb each other.
        SWARM_ENGINE: 'onnx-cpu',
        NODE_OPTIONS: `--import=${CLOCK}`,
        CHAOS_CLOCK_FILE: clockFile,
        ...environment,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running.add(this.#process);
    this.#process.stderr!.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString('utf8')).slice(-STDERR_CHARACTERS);
    });
    createInterface({ input: this.#process.stdout! }).on('line', (line) => this.#read(line));
    this.exited = once(this.#process, 'close').then(([exitCode, signal]) => {
      running.delete(this.#process);
      this.ending = { exitCode, signal, code: this.#code };
      this.#ready.resolve(false);
      return this.ending;
    });
  }

  /** Resolves with true when the daemon is ready, and with false if it ends without being ready. */
  get ready(): Promise<boolean> {
    return this.#ready.promise;
  }

  get stderr(): string {
    return this.#stderr;
  }

  async kill(): Promise<void> {
    this.killed = true;
    const children = await childrenOf(this.#process.pid!);
    this.#process.kill('SIGKILL');
    // Kill the children too, because a stopped or busy child outlives its parent for a while, and slows the
    // other daemons down.
    for (const child of children) signal(child, 'SIGKILL');
    await this.exited;
  }

  /** Stops or continues the daemon and its trainer. */
  async send(name: 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    for (const pid of [this.#process.pid!, ...(await childrenOf(this.#process.pid!))]) signal(pid, name);
  }

  /**
   * Describes the end of the process if it is a problem: the process ended with the error code INTERNAL or without an
   * error code. Returns null while the process runs, if `kill` ended it, and if it ended with another error code.
   */
  problem(): string | null {
    if (this.ending === null || this.killed) return null;
    const { exitCode, signal: by, code } = this.ending;
    if (code !== null && code !== 'INTERNAL' && exitCode !== INTERNAL_EXIT_CODE) return null;
    return `ended with ${by ?? exitCode} and ${code ?? 'no error code'}: ${this.#stderr.slice(-500)}`;
  }

  #read(line: string): void {
    let parsed: { event?: string; error?: { code?: string } };
    try {
      parsed = JSON.parse(line);
    } catch {
      // Ignore a line that is not JSON, because a killed process may have written only a part of its last
      // line.
      return;
    }
    if (parsed.event === 'ready') this.#ready.resolve(true);
    if (parsed.event === 'error') this.#code = parsed.error?.code ?? null;
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // Ignore the error, because the process ended after it was listed.
  }
}
