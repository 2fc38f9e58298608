/**
 * Runs chat templates in a child process with limits on time and memory. A thread is not enough, because a
 * thread that exhausts its heap kills the whole process.
 */

import { z } from 'zod';
import { isSwarmError, type SwarmError } from '../../../common/errors.ts';
import { ChildCalls } from '../../../common/workers/child-process.ts';
import { entryOf } from '../../../common/workers/entry.ts';
import { dataError } from '../errors.ts';
import { MAX_RENDERED_CHARACTERS, templateLimit } from './template-limit.ts';

/** Deadline per conversation, in milliseconds. Rendering takes a few milliseconds; the deadline stops endless loops. */
const RENDER_DEADLINE_MS = 30_000;
/**
 * Deadline for the start of the process, in milliseconds. The start takes 0.1 s, but longer on a machine under load.
 */
const START_DEADLINE_MS = 30_000;
/** Heap limit of the process, MiB. A template holds one conversation at a time, so it usually needs far less. */
const MAX_HEAP_MB = 256;
/** Maximum length of the reason for which a template refused a conversation, in characters. Longer reasons are cut. */
const REASON_CHARACTERS = 1000;

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
  /** Beginnings of the conversation, which are rendered in addition to the whole conversation. @default none */
  readonly parts?: readonly Part[];
}

/** A beginning of the conversation: its first `end` messages. */
export interface Part {
  readonly end: number;
  readonly addGenerationPrompt: boolean;
}

export interface RenderedParts {
  /** The whole conversation, rendered as text. */
  readonly text: string;
  /**
   * Length of the text of each part, in characters. The texts are not returned, because their total length can grow
   * with the square of the length of the conversation.
   */
  readonly lengths: readonly number[];
  /**
   * Index and text of the first part whose text is not a prefix of the whole text; null if all parts are
   * prefixes. The parts after it were not rendered.
   */
  readonly odd: { readonly part: number; readonly text: string } | null;
}

/** Schema of the answer to `render`. Answers are checked because the template process runs untrusted code. */
const renderedSchema = z.strictObject({
  text: z.string().max(MAX_RENDERED_CHARACTERS),
  lengths: z.array(z.int().nonnegative()),
  odd: z.strictObject({ part: z.int().nonnegative(), text: z.string() }).nullable(),
});

export type TemplateMethods = {
  compile: { request: RunnerData; reply: null };
  /**
   * Fails with ROW_TEMPLATE if the template cannot render this conversation. Other codes mean that the template cannot
   * render any conversation.
   */
  render: { request: RenderRequest; reply: RenderedParts };
};

/**
 * Sends conversations to the template process. The template process starts with the first request and handles one
 * request at a time. While idle, it does not keep the parent process alive, and it ends when the parent ends. If a
 * request exceeds a limit, the template process is killed, and every later request fails with the same error.
 */
export class TemplateRunner {
  readonly #data: RunnerData;
  readonly #deadlineMs: number;
  readonly #entry: URL;
  #child: ChildCalls<TemplateMethods> | null = null;
  /** The most recent request, which the next one waits for. This promise never rejects. */
  #last: Promise<unknown> = Promise.resolve();
  #requests = 0;
  #failure: Error | null = null;

  /** @param options the deadline per conversation; the entry file of the process, which only tests replace */
  constructor(
    data: RunnerData,
    {
      deadlineMs = RENDER_DEADLINE_MS,
      entry = entryOf(import.meta, './template-process'),
    }: { deadlineMs?: number; entry?: URL } = {},
  ) {
    this.#data = data;
    this.#deadlineMs = deadlineMs;
    this.#entry = entry;
  }

  /** @throws ROW_TEMPLATE if the template refuses the conversation; TEMPLATE_INVALID, TEMPLATE_LIMIT, TEMPLATE_CLOSED */
  render(request: RenderRequest): Promise<RenderedParts> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    this.#child ??= this.#start();
    const child = this.#child;
    if (this.#requests++ === 0) child.hold(true);
    const rendered = this.#last.then(() => this.#render(request));
    this.#last = rendered
      .catch(() => {})
      .then(() => {
        // After a failure, the child must keep this process alive, because `close` waits for the child's exit.
        if (--this.#requests === 0 && this.#failure === null) child.hold(false);
      });
    return rendered;
  }

  /** Ends the process. Rejects waiting requests. */
  async close(): Promise<void> {
    this.#fail(
      dataError('TEMPLATE_CLOSED', 'the process that renders the chat template was closed during use', {}),
    );
    this.#child?.hold(true);
    await this.#child?.closed;
  }

  #start(): ChildCalls<TemplateMethods> {
    const child = new ChildCalls<TemplateMethods>(this.#entry, {
      // The process may read files, because it loads its modules. It may not write files, start processes or load
      // native code.
      execArgv: [`--max-old-space-size=${MAX_HEAP_MB}`, '--permission', '--allow-fs-read=*'],
      env: {},
      serialization: 'json',
      ended: ({ code, signal }) =>
        templateLimit(
          `more than ${MAX_HEAP_MB} MiB of memory, most likely (its process ended with ${signal ?? `exit code ${code}`})`,
        ),
    });
    this.#child = child;
    this.#last = this.#call('compile', this.#data, START_DEADLINE_MS).catch(() => {});
    return child;
  }

  async #render(request: RenderRequest): Promise<RenderedParts> {
    const reply = await this.#call('render', request, this.#deadlineMs);
    if (isAnswerTo(request, reply)) return reply;
    this.#fail(malformed());
    throw this.#failure;
  }

  async #call<M extends keyof TemplateMethods>(
    method: M,
    request: TemplateMethods[M]['request'],
    deadlineMs: number,
  ): Promise<TemplateMethods[M]['reply']> {
    if (this.#failure !== null) throw this.#failure;
    const cancelDeadline = this.#limitTime(deadlineMs);
    try {
      return await this.#child!.call(method, request);
    } catch (error) {
      // An error that is not a SwarmError means that the conversation could not be sent, because JSON cannot
      // hold one of its values, such as a BigInt.
      if (!isSwarmError(error)) throw refused(error instanceof Error ? error.message : String(error));
      if (error.code === 'ROW_TEMPLATE') throw refused(error.message.slice(0, REASON_CHARACTERS));
      const { code, message, values } = error;
      const isTemplateError = code === 'TEMPLATE_INVALID' || code === 'TEMPLATE_LIMIT';
      const text = message.slice(0, REASON_CHARACTERS);
      this.#fail(isTemplateError ? dataError(code, text, { ...values }) : malformed(error));
      throw this.#failure;
    } finally {
      cancelDeadline();
    }
  }

  #limitTime(deadlineMs: number): () => void {
    const late = (): void => this.#fail(templateLimit(`more than ${deadlineMs / 1000} s`));
    // If this thread was busy until the deadline, the reply may already be in the queue. An immediate runs after the
    // messages in the queue have been handled, so such a reply is still accepted.
    let immediate: NodeJS.Immediate | undefined;
    const timer = setTimeout(() => {
      immediate = setImmediate(late);
    }, deadlineMs);
    return () => {
      clearTimeout(timer);
      clearImmediate(immediate);
    };
  }

  /** Ends the process. The first error is kept; all waiting and later requests fail with it. */
  #fail(error: Error): void {
    this.#failure ??= error;
    this.#child?.fail(this.#failure);
    this.#child?.process.kill('SIGKILL');
  }
}

function refused(reason: string): SwarmError {
  return dataError('ROW_TEMPLATE', `the chat template refused the conversation: ${reason}`, { reason });
}

/** Returns whether a reply has the form that the template process gives it, with a length for every part. */
function isAnswerTo({ parts = [] }: RenderRequest, reply: unknown): boolean {
  const { success, data } = renderedSchema.safeParse(reply);
  if (!success) return false;
  const { text, lengths, odd } = data;
  const rendered = odd?.part ?? parts.length;
  return (
    lengths.length === rendered &&
    lengths.every((length) => length <= text.length) &&
    (odd === null || odd.part < parts.length)
  );
}

function malformed(cause?: unknown): SwarmError {
  const reason = 'the process that renders it sent a malformed message';
  return dataError('TEMPLATE_INVALID', `the chat template cannot be used: ${reason}`, { reason }, { cause });
}
