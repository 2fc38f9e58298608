import type { ErrorJson } from '../../../common/errors.ts';
/**
 * Runs chat templates in a process of their own, with limits of time and memory. Not a thread: one that takes all
 * the memory of its heap takes the whole process with it.
 */

import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { SwarmError } from '../../../common/errors.ts';
import { dataError } from '../errors.ts';
import { templateLimit } from './template-limit.ts';

/** One conversation, rendered up to each of its turns, takes milliseconds; this is for templates that do not end. */
const RENDER_DEADLINE_MS = 30_000;
/** A process starts in 0.1 s; on a machine under load it may wait. */
const START_DEADLINE_MS = 30_000;
/** Heap of the process. A template holds one conversation at a time. */
const MAX_HEAP_MB = 256;
/** Longest rendered conversation, characters: some four million tokens. */
export const MAX_RENDERED_CHARACTERS = 16 * 1024 * 1024;

export interface RunnerData {
  /** Source by name. */
  readonly templates: Readonly<Record<string, string>>;
  readonly variables: Readonly<Record<string, unknown>>;
  readonly now: number;
}

export interface RenderRequest {
  readonly template: string;
  readonly messages: readonly unknown[];
  readonly tools?: readonly unknown[] | null;
  /** Beginnings of the conversation. @default none */
  readonly parts?: readonly Part[];
}

/** The first `end` messages. */
export interface Part {
  readonly end: number;
  readonly addGenerationPrompt: boolean;
}

export interface RenderedParts {
  /** Of all messages. */
  readonly text: string;
  /** Characters of each part. Only these come back: all beginnings of a long conversation are its square. */
  readonly lengths: readonly number[];
  /** The first part whose text is no beginning of `text`; those after it were not rendered. */
  readonly odd: { readonly part: number; readonly text: string } | null;
}

export type RunnerRequest =
  | ({ readonly type: 'start' } & RunnerData)
  | ({ readonly type: 'render' } & RenderRequest);

export type RunnerReply =
  | { readonly type: 'ready' }
  | ({ readonly type: 'rendered' } & RenderedParts)
  /** This conversation cannot be rendered. */
  | { readonly type: 'refused'; readonly reason: string }
  /** None can. */
  | { readonly type: 'unusable'; readonly error: ErrorJson };

interface Waiting {
  readonly request: RenderRequest;
  readonly resolve: (rendered: RenderedParts) => void;
  readonly reject: (error: Error) => void;
}

/**
 * The process starts with the first rendering and does one request at a time. It keeps no other process alive while
 * it is idle, and ends with the one that started it. After a request that was too expensive it is gone, and every
 * later one gets the same error.
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

  /**
   * @throws ROW_TEMPLATE when the template refuses the conversation, TEMPLATE_INVALID, TEMPLATE_LIMIT, TEMPLATE_CLOSED
   */
  render(request: RenderRequest): Promise<RenderedParts> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#queue.push({ request, resolve, reject });
      if (this.#child === null) this.#start();
      else if (this.#ready && this.#queue.length === 1) this.#sendNext();
    });
  }

  /** Ends the process; what waits is rejected. */
  async close(): Promise<void> {
    this.#fail(dataError('TEMPLATE_CLOSED', 'the chat template was closed while it was in use', {}));
    if (this.#child !== null) this.#hold(true);
    await this.#closed;
  }

  #start(): void {
    // The build turns this file and the entry into .js.
    const entry = import.meta.url.endsWith('.ts') ? './template-process.ts' : './template-process.js';
    const child = fork(fileURLToPath(new URL(entry, import.meta.url)), {
      // Modules are read; nothing is written, started or loaded as native code.
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
            `its process down (${signal ?? `exit code ${code}`}), most likely by more than ${MAX_HEAP_MB} MiB of memory`,
          ),
        ),
      );
    });
    child.on('message', (reply: RunnerReply) => this.#receive(reply));
    this.#send({ type: 'start', ...this.#data }, START_DEADLINE_MS);
  }

  #receive(reply: RunnerReply): void {
    // It was closed or failed meanwhile; what would follow lets go of the process whose end is waited for.
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
    // The process renders the next while this one's text is tokenised.
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
        // What is not JSON cannot be sent: integers of 64 bits, endless nesting.
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
    // An error here is followed by the process's exit, which is what counts.
    this.#child!.send(request, () => {});
  }

  /** Whether this process waits for the other one. */
  #hold(wait: boolean): void {
    const method = wait ? 'ref' : 'unref';
    this.#child![method]();
    this.#child!.channel?.[method]();
  }

  #limitTime(deadlineMs: number): void {
    const late = (): void => this.#fail(templateLimit(`more than ${deadlineMs / 1000} s`));
    // Where this thread was busy, the answer waits beside the timer: immediates run after messages.
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
  return dataError('ROW_TEMPLATE', `the chat template refuses the conversation: ${reason}`, { reason });
}
