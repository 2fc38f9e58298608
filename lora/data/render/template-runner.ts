/**
 * Runs chat templates in a child process with limits on time and memory. Not in a thread, because a thread that exhausts
 * its heap kills the whole process.
 */

import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type ErrorJson, SwarmError } from '../../../common/errors.ts';
import { dataError } from '../errors.ts';
import { templateLimit } from './template-limit.ts';

/** Deadline per conversation, milliseconds. Rendering takes milliseconds; this stops templates that do not end. */
const RENDER_DEADLINE_MS = 30_000;
/** Deadline for starting the process, milliseconds. It starts in 0.1 s, but a machine under load may delay it. */
const START_DEADLINE_MS = 30_000;
/** Heap limit of the process, MiB. A template holds one conversation at a time. */
const MAX_HEAP_MB = 256;
/** Longest rendered conversation, characters: about four million tokens. */
export const MAX_RENDERED_CHARACTERS = 16 * 1024 * 1024;

export interface RunnerData {
  /** Template sources by name. */
  readonly templates: Readonly<Record<string, string>>;
  readonly variables: Readonly<Record<string, unknown>>;
  readonly now: number;
}

export interface RenderRequest {
  readonly template: string;
  readonly messages: readonly unknown[];
  readonly tools?: readonly unknown[] | null;
  /** Starts of the conversation to render too. @default none */
  readonly parts?: readonly Part[];
}

/** A start of the conversation: its first `end` messages. */
export interface Part {
  readonly end: number;
  readonly addGenerationPrompt: boolean;
}

export interface RenderedParts {
  /** The whole conversation. */
  readonly text: string;
  /** Length of each part, characters. The texts of all parts would be quadratic in the length of the conversation. */
  readonly lengths: readonly number[];
  /** The first part that is not a prefix of `text`. Later parts were not rendered. */
  readonly odd: { readonly part: number; readonly text: string } | null;
}

export type RunnerRequest =
  | ({ readonly type: 'start' } & RunnerData)
  | ({ readonly type: 'render' } & RenderRequest);

export type RunnerReply =
  | { readonly type: 'ready' }
  | ({ readonly type: 'rendered' } & RenderedParts)
  /** The template cannot render this conversation. */
  | { readonly type: 'refused'; readonly reason: string }
  /** The template cannot render any conversation. */
  | { readonly type: 'unusable'; readonly error: ErrorJson };

interface Waiting {
  readonly request: RenderRequest;
  readonly resolve: (rendered: RenderedParts) => void;
  readonly reject: (error: Error) => void;
}

/**
 * Sends conversations to the template process. The process starts with the first request and works on one request at a
 * time. While it is idle, it does not keep this process alive. It ends together with this process. After a request that
 * exceeded a limit, the process is gone, and every later request fails with the same error.
 */
export class TemplateRunner {
  readonly #data: RunnerData;
  readonly #deadlineMs: number;
  readonly #queue: Waiting[] = [];
  #child: ChildProcess | null = null;
  #closed: Promise<void> = Promise.resolve();
  #ready = false;
  #failure: Error | null = null;
  #cancelDeadline = (): void => {};

  constructor(data: RunnerData, { deadlineMs = RENDER_DEADLINE_MS }: { deadlineMs?: number } = {}) {
    this.#data = data;
    this.#deadlineMs = deadlineMs;
  }

  /** @throws ROW_TEMPLATE if the template refuses the conversation; TEMPLATE_INVALID, TEMPLATE_LIMIT, TEMPLATE_CLOSED */
  render(request: RenderRequest): Promise<RenderedParts> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#queue.push({ request, resolve, reject });
      if (this.#child === null) this.#start();
      else if (this.#ready && this.#queue.length === 1) this.#sendNext();
    });
  }

  /** Ends the process. Requests that wait are rejected. */
  async close(): Promise<void> {
    this.#fail(dataError('TEMPLATE_CLOSED', 'the chat template was closed during use', {}));
    if (this.#child !== null) this.#hold(true);
    await this.#closed;
  }

  #start(): void {
    // In the published build, this file and the entry are .js.
    const entry = import.meta.url.endsWith('.ts') ? './template-process.ts' : './template-process.js';
    const child = fork(fileURLToPath(new URL(entry, import.meta.url)), {
      // The process may read files (its modules), but not write, start processes or load native code.
      execArgv: [`--max-old-space-size=${MAX_HEAP_MB}`, '--permission', '--allow-fs-read=*'],
      env: {},
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    this.#child = child;
    this.#closed = new Promise((resolve) => {
      const ended = (error: Error): void => {
        this.#fail(error);
        resolve();
      };
      child.once('error', ended);
      child.once('exit', (code, signal) =>
        ended(
          templateLimit(
            `more than ${MAX_HEAP_MB} MiB of memory, most likely (its process ended with ${signal ?? `exit code ${code}`})`,
          ),
        ),
      );
    });
    child.on('message', (reply: RunnerReply) => this.#receive(reply));
    this.#send({ type: 'start', ...this.#data }, START_DEADLINE_MS);
  }

  #receive(reply: RunnerReply): void {
    // The runner was closed or failed. Continuing would unref the process while `close` waits for its exit.
    if (this.#failure !== null) return;
    this.#cancelDeadline();
    if (reply.type === 'unusable') {
      this.#fail(SwarmError.fromJSON(reply.error));
      return;
    }
    if (reply.type === 'ready') {
      this.#ready = true;
      this.#sendNext();
      return;
    }
    const waiting = this.#queue.shift();
    // The process renders the next conversation while the caller tokenises this one.
    this.#sendNext();
    if (reply.type === 'rendered') waiting?.resolve(reply);
    else waiting?.reject(refused(reply.reason));
  }

  #sendNext(): void {
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      try {
        this.#send({ type: 'render', ...next.request }, this.#deadlineMs);
        return;
      } catch (error) {
        // Values that JSON cannot hold cannot be sent: 64-bit integers, circular references.
        this.#cancelDeadline();
        this.#queue.shift();
        next.reject(refused(error instanceof Error ? error.message : String(error)));
      }
    }
    this.#hold(false);
  }

  #send(request: RunnerRequest, deadlineMs: number): void {
    this.#hold(true);
    this.#limitTime(deadlineMs);
    // If sending fails, the process exits, and the exit handler reports the error.
    this.#child!.send(request, () => {});
  }

  /** Sets whether the child process keeps this process alive. */
  #hold(wait: boolean): void {
    const method = wait ? 'ref' : 'unref';
    this.#child![method]();
    this.#child!.channel?.[method]();
  }

  #limitTime(deadlineMs: number): void {
    const late = (): void => this.#fail(templateLimit(`more than ${deadlineMs / 1000} s`));
    // If this thread was busy, the reply may already be queued. An immediate runs after queued messages.
    let immediate: NodeJS.Immediate | undefined;
    const timer = setTimeout(() => {
      immediate = setImmediate(late);
    }, deadlineMs);
    this.#cancelDeadline = () => {
      clearTimeout(timer);
      clearImmediate(immediate);
    };
  }

  #fail(error: Error): void {
    this.#cancelDeadline();
    this.#failure ??= error;
    this.#child?.kill('SIGKILL');
    for (const { reject } of this.#queue.splice(0)) reject(this.#failure);
  }
}

function refused(reason: string): SwarmError {
  return dataError('ROW_TEMPLATE', `the chat template refused the conversation: ${reason}`, { reason });
}
