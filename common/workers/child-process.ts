import { type ChildProcess, fork } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type CallOptions, Calls, type Methods, type ProgressOf } from './calls.ts';

export interface ChildOptions {
  /**
   * Flags of Node.js for the child. The child does not inherit the parent's flags, because some flags work in only one
   * process at a time. For example, a second process cannot open the same debugger port. @default none
   */
  execArgv?: readonly string[];
  /** Environment of the child. @default the parent's environment */
  env?: NodeJS.ProcessEnv;
  /**
   * Encoding of messages. Use `json` for a child that runs untrusted code, because deserialising structured clones from
   * such a child is not safe. @default 'advanced', which is structured clones
   */
  serialization?: 'json' | 'advanced';
  /** Called with each line that the child writes to its standard error. @default the lines are dropped */
  onLog?: (line: string) => void;
  /** Called with each notice of the child: a human-readable message that belongs to no call. */
  onNotice?: (text: string) => void;
  /** Makes the error of calls that the child did not answer before it ended. */
  ended: (end: ChildEnd) => Error;
}

export interface ChildEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The error that prevented the start of the process; undefined if it started. */
  readonly cause: Error | undefined;
  /** The last characters of the child's standard error output. */
  readonly stderr: string;
}

/** Number of characters of the standard error output that are kept, counted from its end. */
const STDERR_TAIL = 16_000;

/** A child process that answers calls. */
export class ChildCalls<M extends Methods> extends Calls<M> {
  readonly process: ChildProcess;
  /** Resolves when the process has ended and all its output has been read. */
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
        // If the channel is closed, the handler of 'close' below rejects the calls, with the reason.
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
    });
    if (onLog !== undefined) {
      createInterface({ input: child.stderr!, crlfDelay: Infinity }).on('line', (line) => {
        if (line !== '') onLog(line);
      });
    }
    this.closed = new Promise((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null, cause?: Error): void => {
        const how = { code, signal, cause, stderr };
        this.fail(ended(how));
        resolve(how);
      };
      child.on('close', (code, signal) => end(code, signal));
      child.on('error', (error) => {
        // A process that could not be started emits no 'close'.
        if (child.pid === undefined) end(null, null, error);
      });
    });
  }

  /** Ends the process immediately; pending calls reject. Idempotent. */
  async kill(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.closed;
  }

  /**
   * Makes a call, then ends the process. If the signal aborts, ends the process immediately.
   * @throws the error of the call; the signal's reason
   */
  async callOnce<N extends keyof M & string>(
    method: N,
    request: M[N]['request'],
    { signal, onProgress }: Omit<CallOptions<ProgressOf<M[N]>>, 'signal'> & { signal: AbortSignal },
  ): Promise<M[N]['reply']> {
    const stop = (): void => void this.kill();
    signal.addEventListener('abort', stop);
    try {
      return await this.call(method, request, { signal, onProgress });
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener('abort', stop);
      await this.kill();
    }
  }

  /** Sets whether the child keeps its parent process alive. */
  hold(wait: boolean): void {
    const method = wait ? 'ref' : 'unref';
    this.process[method]();
    this.process.channel?.[method]();
  }
}
