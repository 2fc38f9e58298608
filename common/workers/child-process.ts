import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Calls, type Methods } from './calls.ts';

export interface ChildOptions {
  /** Flags of Node.js. The parent's are not passed on: a debugger's port, for one, can be opened once only. @default none */
  execArgv?: readonly string[];
  /** @default the parent's */
  env?: NodeJS.ProcessEnv;
  /** `json` for a child that runs code of strangers: structured clones are not made to be read from one. @default 'advanced' */
  serialization?: 'json' | 'advanced';
  /** Lines that the child writes to its standard error. @default they are dropped */
  onLog?: (line: string) => void;
  /** Notices of the child. */
  onNotice?: (text: string) => void;
  /** The error of calls that the child did not answer before it ended. */
  ended: (end: ChildEnd) => Error;
}

export interface ChildEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Why it could not be started; undefined where it was. */
  readonly cause: Error | undefined;
  /** The last characters of its standard error. */
  readonly stderr: string;
}

/** Characters of the standard error that are kept. */
const STDERR_TAIL = 16_000;

/** A child process that answers calls. */
export class ChildCalls<M extends Methods> extends Calls<M> {
  readonly process: ChildProcess;
  /** Resolves when the process has ended and its output is read. */
  readonly closed: Promise<ChildEnd>;

  constructor(
    entry: URL,
    { execArgv = [], env, serialization = 'advanced', onLog, onNotice, ended }: ChildOptions,
  ) {
    const child = fork(fileURLToPath(entry), {
      serialization,
      execArgv: [...execArgv],
      ...(env && { env }),
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    super({
      channel: {
        // A closed channel is reported by 'close', with the reason.
        send: (message, onSent) => {
          if (child.connected) child.send(message as object, () => onSent?.());
        },
        onMessage: (listener) => child.on('message', listener as (message: unknown) => void),
      },
      ...(onNotice && { onNotice }),
    });
    this.process = child;
    let stderr = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-STDERR_TAIL);
      if (onLog !== undefined) for (const line of text.split(/\r?\n/)) if (line !== '') onLog(line);
    });
    this.closed = new Promise((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null, cause?: Error): void => {
        const how = { code, signal, cause, stderr };
        this.fail(ended(how));
        resolve(how);
      };
      child.on('close', (code, signal) => end(code, signal));
      child.on('error', (error) => {
        // A process that could not be started does not close.
        if (child.pid === undefined) end(null, null, error);
      });
    });
  }

  /** Ends the process at once; pending calls reject. Idempotent. */
  async kill(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.closed;
  }

  /** Whether the parent stays alive for the child. */
  hold(wait: boolean): void {
    const method = wait ? 'ref' : 'unref';
    this.process[method]();
    this.process.channel?.[method]();
  }
}
