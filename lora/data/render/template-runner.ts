/** Runs chat templates in a worker thread with a deadline and a limit of memory. */
import { Worker } from 'node:worker_threads';
import { SwarmError } from '../../../protocol/errors.ts';
import type { TemplateInput } from './jinja.ts';

/** One conversation, rendered up to each of its turns, takes milliseconds; this is for templates that do not end. */
const RENDER_DEADLINE_MS = 10_000;
/** A thread starts in 0.1 s; on a machine under load it may wait. */
const START_DEADLINE_MS = 30_000;
/** Heap of the thread. A template holds one conversation at a time. */
const MAX_HEAP_MB = 256;
/** Longest rendered conversation, characters: some four million tokens. */
export const MAX_RENDERED_CHARACTERS = 16 * 1024 * 1024;

export interface RunnerData {
  /** Source by name. */
  readonly templates: Readonly<Record<string, string>>;
  readonly variables: Readonly<Record<string, unknown>>;
  readonly now: number;
}

export interface RunnerRequest {
  readonly template: string;
  readonly inputs: readonly TemplateInput[];
}

export type RunnerReply =
  | { readonly type: 'ready' }
  | { readonly type: 'invalid'; readonly reason: string }
  | { readonly type: 'texts'; readonly texts: string[] }
  | { readonly type: 'refused'; readonly reason: string }
  | { readonly type: 'too-long'; readonly characters: number };

interface Waiting {
  readonly request: RunnerRequest;
  readonly resolve: (texts: string[]) => void;
  readonly reject: (error: Error) => void;
}

/**
 * The thread starts with the first rendering and does one request at a time. It keeps no process alive while it is
 * idle. After a request that was too expensive it is gone, and every later request gets the same error.
 */
export class TemplateRunner {
  private readonly data: RunnerData;
  private readonly deadlineMs: number;
  private readonly queue: Waiting[] = [];
  private worker: Worker | null = null;
  private ready = false;
  private failure: Error | null = null;
  private cancelDeadline = (): void => {};

  constructor(data: RunnerData, { deadlineMs = RENDER_DEADLINE_MS }: { deadlineMs?: number } = {}) {
    this.data = data;
    this.deadlineMs = deadlineMs;
  }

  /**
   * A text for each input.
   * @throws ROW_TEMPLATE when the template refuses the conversation, TEMPLATE_INVALID, TEMPLATE_LIMIT
   */
  render(request: RunnerRequest): Promise<string[]> {
    if (this.failure !== null) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      this.queue.push({ request, resolve, reject });
      if (this.worker === null) this.start();
      else if (this.ready && this.queue.length === 1) this.send();
    });
  }

  /** Ends the thread; what is being rendered is rejected. */
  async close(): Promise<void> {
    const { worker } = this;
    this.fail(new SwarmError('TEMPLATE_CLOSED', 'the chat template was closed while it was in use', {}));
    await worker?.terminate();
  }

  private start(): void {
    // The build turns this file and the entry into .js.
    const entry = import.meta.url.endsWith('.ts') ? './template-worker.ts' : './template-worker.js';
    const worker = new Worker(new URL(entry, import.meta.url), {
      workerData: this.data,
      env: {},
      resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB },
    });
    this.worker = worker;
    this.limitTime(START_DEADLINE_MS, 'start');
    worker.on('message', (reply: RunnerReply) => this.receive(reply));
    worker.on('error', (error) => {
      const memory = 'code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY';
      this.fail(memory ? limit(`more than ${MAX_HEAP_MB} MiB of memory`) : error);
    });
    worker.on('exit', (code) => this.fail(limit(`its thread, which ended with code ${code}`)));
  }

  private receive(reply: RunnerReply): void {
    this.cancelDeadline();
    if (reply.type === 'invalid') {
      const { reason } = reply;
      this.fail(
        new SwarmError(
          'TEMPLATE_INVALID',
          `the chat template cannot be used: ${reason}; name another with --template`,
          { reason },
        ),
      );
      return;
    }
    if (reply.type === 'ready') {
      this.ready = true;
      this.send();
      return;
    }
    const waiting = this.queue.shift();
    // The thread renders the next while this one's text is tokenised.
    if (this.queue.length > 0) this.send();
    else this.worker?.unref();
    if (reply.type === 'texts') waiting?.resolve(reply.texts);
    else waiting?.reject(refused(reply));
  }

  private send(): void {
    this.worker!.ref();
    this.limitTime(this.deadlineMs, 'render');
    this.worker!.postMessage(this.queue[0]!.request);
  }

  private limitTime(deadlineMs: number, what: 'start' | 'render'): void {
    const late = (): void =>
      this.fail(
        limit(
          `more than ${deadlineMs / 1000} s to ${what === 'start' ? 'be read' : 'render a conversation'}`,
        ),
      );
    // Where this thread was busy, the answer waits beside the timer: immediates run after messages.
    let immediate: NodeJS.Immediate | undefined;
    const timer = setTimeout(() => {
      immediate = setImmediate(late);
    }, deadlineMs);
    this.cancelDeadline = () => {
      clearTimeout(timer);
      clearImmediate(immediate);
    };
  }

  private fail(error: Error): void {
    this.cancelDeadline();
    this.failure ??= error;
    void this.worker?.terminate();
    for (const { reject } of this.queue.splice(0)) reject(this.failure);
  }
}

function refused(reply: Exclude<RunnerReply, { type: 'ready' | 'invalid' | 'texts' }>): SwarmError {
  const reason =
    reply.type === 'refused'
      ? reply.reason
      : `it would have ${reply.characters} characters, more than ${MAX_RENDERED_CHARACTERS}`;
  return new SwarmError('ROW_TEMPLATE', `the chat template refuses the conversation: ${reason}`, { reason });
}

function limit(what: string): SwarmError {
  return new SwarmError(
    'TEMPLATE_LIMIT',
    `the chat template was stopped: it took ${what}; name another with --template`,
    { what },
  );
}
