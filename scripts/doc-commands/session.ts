/** Runs the commands of a page in an empty folder, as a new user of a checkout. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { freePort } from '../chaos/link.ts';
import type { RealLine } from './shape.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Folders of the checkout that the pages use. */
const LINKED = ['models', 'examples', 'node_modules'];
/** The home folder of the user, below the folder of the session. It is short, so that the paths in pages are short. */
const USER = 'home/ada';
/** Ports in the pages. Another program may use them, so the session takes free ones. */
const PORTS = ['8000', '4040'];

/** Maximum time of a command. Training on a whole book takes the longest. */
const COMMAND_MS = 900_000;
/** Time in which a stopped program must end. */
const STOP_MS = 60_000;
const INTERRUPTED = 130;

/** Programs that run until Ctrl-C, each with the output that shows that it has started. */
const LONG_RUNNING: readonly (readonly [RegExp, RegExp])[] = [
  [/lora-swarm serve /, /^ready/m],
  [/lora-swarm coordinator\b/, /^ready/m],
  [/lora-swarm node -/, /^ready/m],
  [/lora-swarm adapter share (?!.*--keep)\S/, /^ticket/m],
  [/lora-swarm job wait/, /./],
];

export interface Result {
  readonly output: readonly RealLine[];
  /** Reason why the command failed; null if it did not. */
  readonly failure: string | null;
}

interface Running {
  readonly command: string;
  readonly child: ChildProcess;
  readonly exited: Promise<number | string>;
  readonly output: RealLine[];
  /** The whole output so far. */
  text: string;
}

export class Session {
  readonly #folder: string;
  readonly #ports: ReadonlyMap<string, number>;
  /** Assignments of variables, which later commands use. */
  #variables = '';
  /** All output so far, in which invites and tickets are found. */
  #seen = '';
  readonly #started: Running[] = [];

  private constructor(folder: string, ports: ReadonlyMap<string, number>) {
    this.#folder = folder;
    this.#ports = ports;
  }

  static async open(): Promise<Session> {
    const folder = await mkdtemp(join(tmpdir(), 'doc-commands-'));
    for (const name of ['bin', USER, 'work']) await mkdir(join(folder, name), { recursive: true });
    const program = `exec '${process.execPath}' '${join(ROOT, 'cli/swarm.js')}' "$@"\n`;
    for (const [name, text] of [
      ['lora-swarm', `#!/bin/sh\n${program}`],
      ['npx', `#!/bin/sh\nshift\n${program}`],
    ] as const) {
      await writeFile(join(folder, 'bin', name), text);
      await chmod(join(folder, 'bin', name), 0o755);
    }
    for (const name of LINKED) await symlink(join(ROOT, name), join(folder, 'work', name));
    const ports = new Map<string, number>();
    for (const port of PORTS) ports.set(port, await freePort());
    return new Session(folder, ports);
  }

  async write(file: string, content: string): Promise<void> {
    await writeFile(join(this.#folder, 'work', file), content);
  }

  /**
   * Runs a command, and waits for its end. A program that runs until Ctrl-C goes on in the background.
   * @param input lines that the user types
   */
  async run(command: string, input: readonly string[] = []): Promise<Result> {
    if (/^\w+=\S+$/.test(command)) {
      this.#variables += `${command}\n`;
      return { output: [], failure: null };
    }
    const running = this.#start(command, input);
    const isReady = LONG_RUNNING.find(([pattern]) => pattern.test(command))?.[1];
    if (isReady === undefined) return this.#result(running, await within(COMMAND_MS, running));
    this.#started.push(running);
    return this.#result(running, await within(COMMAND_MS, running, shows(running, isReady)));
  }

  /** Waits until a program in the background has ended by itself. */
  async waitFor(pattern: string): Promise<Result> {
    const running = this.#started.find(({ command }) => command.includes(pattern))!;
    return this.#result(running, await within(COMMAND_MS, running));
  }

  /** Presses Ctrl-C for all programs in the background, newest first. Returns the commands that did not end properly. */
  async close(): Promise<string[]> {
    const failed: string[] = [];
    for (const running of this.#started.reverse()) {
      running.child.kill('SIGINT');
      const code = await within(STOP_MS, running);
      if (code !== 0 && code !== INTERRUPTED)
        failed.push(`${running.command}: ended with ${code} after Ctrl-C`);
    }
    await rm(this.#folder, { recursive: true });
    return failed;
  }

  #start(command: string, input: readonly string[]): Running {
    let text = command;
    for (const [port, free] of this.#ports)
      text = text.replace(new RegExp(`(?<=[:/])${port}\\b`), String(free));
    if (/lora-swarm serve /.test(text)) text += ` --port ${this.#ports.get('8000')}`;
    // If the line starts only one program, `exec` replaces the shell with it, so that a signal reaches the program.
    const isOne = !/[;&|(]/.test(text.replaceAll(/'[^']*'|"[^"]*"/g, ''));
    const child = spawn('bash', ['-c', `${this.#variables}${isOne ? 'exec ' : ''}${text}`], {
      cwd: join(this.#folder, 'work'),
      env: {
        HOME: join(this.#folder, USER),
        PATH: `${join(this.#folder, 'bin')}${delimiter}${process.env.PATH}`,
        LANG: 'C.UTF-8',
      },
    });
    const running: Running = {
      command,
      child,
      exited: once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string),
      output: [],
      text: '',
    };
    for (const [stream, isNote] of [
      [child.stdout, false],
      [child.stderr, true],
    ] as const) {
      createInterface({ input: stream }).on('line', (text) => {
        running.output.push({ text: this.#asUser(text), isNote });
        running.text += `${text}\n`;
        this.#seen += `${text}\n`;
      });
    }
    // A program that ends early closes its input, which is no failure of the session.
    child.stdin.on('error', () => {});
    const typed = / -( |$)/.test(command) ? [this.#secretFor(command), ...input] : input;
    child.stdin.write(typed.map((line) => `${line}\n`).join(''));
    // A node waits for further invites while its input is open.
    child.stdin.end();
    return running;
  }

  /** Returns the newest invite, or for `adapter pull` the newest ticket. */
  #secretFor(command: string): string {
    const pattern = command.includes('adapter pull') ? /swarmv1[\w-]+/g : /swarm1[\w-]+/g;
    return this.#seen.match(pattern)?.at(-1) ?? '';
  }

  #result({ output }: Running, code: number | string): Result {
    return { output: [...output], failure: code === 0 ? null : `ended with ${code}` };
  }

  /** Returns a line with the paths that a user would see. */
  #asUser(text: string): string {
    return text
      .replaceAll(join(this.#folder, 'home'), '/home')
      .replaceAll(join(this.#folder, 'work'), '/tmp/docs');
  }
}

/**
 * Waits until a program has ended, or until `goal`. Kills the program when the time is over.
 * @returns the exit code or the signal; 0 if the goal came first
 */
async function within(
  limitMs: number,
  { child, exited }: Running,
  goal?: Promise<0>,
): Promise<number | string> {
  const timer = setTimeout(() => child.kill('SIGKILL'), limitMs);
  try {
    return await Promise.race([exited, ...(goal ? [goal] : [])]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits until the output of a program matches. */
async function shows(running: Running, pattern: RegExp): Promise<0> {
  const { stdout, stderr } = running.child;
  while (!pattern.test(running.text)) await Promise.race([once(stdout!, 'data'), once(stderr!, 'data')]);
  return 0;
}
