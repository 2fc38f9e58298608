/**
 * Calls from this process to a child process or worker thread that it started. A call has a request and a reply, can
 * report progress, and can be aborted. Both ends run code of this program. By default messages are structured clones,
 * so they can contain typed arrays.
 *
 * Libraries for worker pools (tinypool, piscina) lack three things that trainers and chat templates need: progress
 * reports, aborts that the callee answers, and child processes that stay alive between calls without keeping their
 * parent alive.
 */
import { raceSignal } from 'race-signal';
import { commonError } from '../common-errors.ts';
import {
  type ErrorJson,
  type ErrorOptions,
  fromSystem,
  isErrorJson,
  isSwarmError,
  messageOf,
  SwarmError,
} from '../errors.ts';

/** The types of each method's request, reply and progress reports. */
export type Methods = Readonly<Record<string, { request: unknown; reply: unknown; progress?: unknown }>>;

/** The type of a method's progress reports; `never` for a method without them. */
export type ProgressOf<Method> = Method extends { progress: infer Progress } ? Progress : never;

/** One end of a message channel. */
export interface Channel {
  /** Sends a message. Calls `onSent` as soon as the memory of the message may be reused. */
  send(message: unknown, onSent?: () => void): void;
  onMessage(listener: (message: never) => void): void;
}

type ToCallee =
  | { type: 'call'; id: number; method: string; request: unknown }
  /**
   * Aborts a call that is running or waiting. The callee acts on this message immediately, before it serves waiting
   * calls.
   */
  | { type: 'abort'; id: number }
  /**
   * Pauses or resumes all running calls. A paused call stops where it next waits for `resumed`. The callee acts on
   * this message immediately, before it serves waiting calls.
   */
  | { type: 'pause'; isPaused: boolean };

type ToCaller =
  | { type: 'progress'; id: number; progress: unknown }
  | { type: 'reply'; id: number; reply: unknown }
  | { type: 'failed'; id: number; error: ErrorJson }
  /** A human-readable message. It belongs to no call. */
  | { type: 'notice'; text: string };

export interface CallOptions<Progress> {
  /**
   * If the signal aborts, the callee is asked to abort the call. The call still waits for the callee's answer, and
   * throws the callee's error.
   */
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  onSent?: (() => void) | undefined;
}

interface Pending {
  resolve(reply: unknown): void;
  reject(error: unknown): void;
  onProgress: ((progress: never) => void) | undefined;
}

/** The caller's end of a connection to a child process or thread. */
export class Calls<M extends Methods> {
  readonly #channel: Channel;
  readonly #pending = new Map<number, Pending>();
  #calls = 0;
  #failure: { error: unknown } | null = null;

  constructor({ channel, onNotice }: { channel: Channel; onNotice?: (text: string) => void }) {
    this.#channel = channel;
    channel.onMessage((message: unknown) => {
      if (!isToCaller(message)) {
        this.fail(commonError('CALL_MALFORMED', 'a child process or thread sent a malformed message'));
      } else if (message.type === 'notice') this.#notify(() => onNotice?.(message.text));
      else this.#receive(message);
    });
  }

  /**
   * Calls a method and waits for its reply.
   * @throws the callee's error; the signal's reason if the signal had aborted before the call; the error given to
   * `fail`; an error that `onProgress` throws; SwarmError CALL_MALFORMED after a message that is not in the format of
   * calls
   */
  async call<N extends keyof M & string>(
    method: N,
    request: M[N]['request'],
    { signal, onProgress, onSent }: CallOptions<ProgressOf<M[N]>> = {},
  ): Promise<M[N]['reply']> {
    if (this.#failure !== null) throw this.#failure.error;
    signal?.throwIfAborted();
    const id = ++this.#calls;
    const abort = (): void => this.#send({ type: 'abort', id });
    signal?.addEventListener('abort', abort, { once: true });
    try {
      return await new Promise((resolve, reject) => {
        this.#pending.set(id, { resolve, reject, onProgress });
        this.#send({ type: 'call', id, method, request }, onSent);
      });
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#pending.delete(id);
    }
  }

  /** Asks the callee to abort every call that has no answer yet. */
  abortAll(): void {
    for (const id of this.#pending.keys()) this.#send({ type: 'abort', id });
  }

  /** Asks the callee to pause all running and later calls where they can pause, or to continue them. */
  pause(isPaused: boolean): void {
    this.#send({ type: 'pause', isPaused });
  }

  /** Rejects every pending call and all later calls with `error`. A second call of `fail` changes nothing. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    for (const { reject } of this.#pending.values()) reject(this.#failure.error);
  }

  #send(message: ToCallee, onSent?: () => void): void {
    this.#channel.send(message, onSent);
  }

  #receive(message: Exclude<ToCaller, { type: 'notice' }>): void {
    const pending = this.#pending.get(message.id);
    if (message.type === 'progress') this.#report(message.id, message.progress);
    else if (message.type === 'reply') pending?.resolve(message.reply);
    else pending?.reject(SwarmError.fromJSON(message.error));
  }

  /**
   * Runs a callback of the caller. If the callback throws an error, all calls in progress end with this
   * error. If no call is in progress, all later calls fail with this error.
   */
  #notify(callback: () => void): void {
    try {
      callback();
    } catch (error) {
      if (this.#pending.size === 0) this.fail(error);
      for (const { reject } of this.#pending.values()) reject(error);
      this.abortAll();
    }
  }

  /** Passes on a progress report. An error that `onProgress` throws ends the call. */
  #report(id: number, progress: unknown): void {
    const pending = this.#pending.get(id);
    try {
      pending?.onProgress?.(progress as never);
    } catch (error) {
      pending!.reject(error);
      this.#send({ type: 'abort', id });
    }
  }
}

/**
 * Checks the form of a message, because a child may run untrusted code. Does not check the content of a reply or a
 * progress report.
 */
function isToCaller(message: unknown): message is ToCaller {
  if (typeof message !== 'object' || message === null) return false;
  const { type, id, text, error } = message as Record<string, unknown>;
  if (type === 'notice') return typeof text === 'string';
  if (typeof id !== 'number') return false;
  return type === 'progress' || type === 'reply' || (type === 'failed' && isErrorJson(error));
}

export interface Served<Progress> {
  /** Aborts when the caller aborts the call. */
  readonly signal: AbortSignal;
  onProgress(progress: Progress): void;
  /** Waits while the caller pauses the calls. @throws the signal's reason if the signal aborts meanwhile */
  resumed(): Promise<void>;
}

export type Handlers<M extends Methods> = {
  [N in keyof M]: (
    request: M[N]['request'],
    call: Served<ProgressOf<M[N]>>,
  ) => M[N]['reply'] | Promise<M[N]['reply']>;
};

/** Makes a SwarmError from the message of another error, with an error code of the module that serves the calls. */
export type MakeError = (message: string, options: ErrorOptions) => SwarmError;

export interface ServeOptions {
  channel: Channel;
  /** Makes the error of a call that fails with an error other than a SwarmError. */
  failed: MakeError;
  /** Makes the error of a call that ends with an AbortError. @default `failed` */
  aborted?: MakeError;
  /** Serves every call as soon as it arrives, while earlier calls still run. @default false: one after the other */
  concurrent?: boolean;
}

/**
 * Serves calls, by default one after the other in the order of their arrival. This is the answering end of {@link
 * Calls}.
 *
 * @returns a function that sends a notice to the caller
 */
export function serveCalls<M extends Methods>(
  handlers: Handlers<M>,
  { channel, failed, aborted = failed, concurrent = false }: ServeOptions,
): (text: string) => void {
  const running = new Map<number, AbortController>();
  let queue: Promise<void> = Promise.resolve();
  /** Resolves when the caller ends its pause; null while there is no pause. */
  let pause: PromiseWithResolvers<void> | null = null;
  const send = (message: ToCaller): void => channel.send(message);

  const serve = async (call: Extract<ToCallee, { type: 'call' }>, signal: AbortSignal): Promise<ToCaller> => {
    const { id, method, request } = call;
    try {
      signal.throwIfAborted();
      const onProgress = (progress: unknown): void => send({ type: 'progress', id, progress });
      const resumed = async (): Promise<void> => {
        while (pause !== null) await raceSignal(pause.promise, signal);
      };
      return { type: 'reply', id, reply: await handlers[method]!(request, { signal, onProgress, resumed }) };
    } catch (error) {
      if (isSwarmError(error)) return { type: 'failed', id, error: error.toJSON() };
      const isAbort = error instanceof Error && error.name === 'AbortError';
      const message = messageOf(error);
      const made = isAbort ? aborted(message, {}) : failed(message, fromSystem(error));
      return { type: 'failed', id, error: made.toJSON() };
    }
  };

  channel.onMessage((message: ToCallee) => {
    if (message.type === 'abort') {
      running.get(message.id)?.abort();
      return;
    }
    if (message.type === 'pause') {
      if (message.isPaused) pause ??= Promise.withResolvers<void>();
      else {
        pause?.resolve();
        pause = null;
      }
      return;
    }
    const controller = new AbortController();
    running.set(message.id, controller);
    const answer = async (): Promise<void> => {
      const reply = await serve(message, controller.signal);
      running.delete(message.id);
      send(reply);
    };
    if (concurrent) void answer();
    else queue = queue.then(answer);
  });
  return (text) => send({ type: 'notice', text });
}
