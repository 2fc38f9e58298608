import type { SwarmError } from '../../common/errors.ts';
import { notRunning, type Role } from '../../storage/daemon-home.ts';
import { storageError } from '../../storage/errors.ts';
import { coordinatorError } from '../errors.ts';
import { apiError } from './api-error.ts';
import { type HttpResponse, readAll, readLines, request } from './http.ts';

/** Time to wait for an answer, in milliseconds. A daemon on the same machine that takes longer is stuck. */
const ANSWER_MS = 10_000;

export interface ApiConnectionOptions {
  readonly url: string;
  /** Home of the daemon; null if only its URL is known. */
  readonly home: string | null;
  readonly role: Role;
  readonly token: string | null;
  /** When this signal aborts, all requests end. */
  readonly signal: AbortSignal;
}

/** Sends requests to the control API of a daemon. */
export class ApiConnection {
  readonly url: string;
  readonly signal: AbortSignal;
  readonly #home: string | null;
  readonly #role: Role;
  readonly #token: string | null;

  constructor({ url, home, role, token, signal }: ApiConnectionOptions) {
    this.url = url;
    this.signal = signal;
    this.#home = home;
    this.#role = role;
    this.#token = token;
  }

  get<T>(path: string): Promise<T> {
    return this.#json('GET', path);
  }

  post<T>(path: string, body: object): Promise<T> {
    return this.#json('POST', path, body);
  }

  /** Sends a POST request without a time limit, for an order that takes long. */
  async postLong<T>(path: string, body: object): Promise<T> {
    return parsed(await this.#send('POST', path, this.signal, body));
  }

  /** Yields the lines of an answer as they arrive. There is no time limit. */
  async *lines<T>(
    method: 'GET' | 'POST',
    path: string,
    signal: AbortSignal,
    body?: object,
  ): AsyncGenerator<T> {
    const response = await this.#send(method, path, signal, body);
    yield* readLines(response.body) as AsyncGenerator<T>;
  }

  /** Yields the bytes of an answer as they arrive. There is no time limit. */
  async *bytes(path: string, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
    yield* (await this.#send('GET', path, AbortSignal.any([this.signal, signal]))).body;
  }

  /** Returns the body of an answer, even if the status of the answer is an error. */
  async getAny<T>(path: string): Promise<T> {
    return parsed(await this.#call('GET', path, this.#deadline()));
  }

  async #json<T>(method: string, path: string, body?: object): Promise<T> {
    return parsed(await this.#send(method, path, this.#deadline(), body));
  }

  #deadline(): AbortSignal {
    return AbortSignal.any([this.signal, AbortSignal.timeout(ANSWER_MS)]);
  }

  /** @throws SwarmError with the code of the daemon's error; DAEMON_NOT_RUNNING, DAEMON_GONE, DAEMON_TIMEOUT */
  async #send(method: string, path: string, signal: AbortSignal, body?: object): Promise<HttpResponse> {
    const response = await this.#call(method, path, signal, body);
    if (response.status < 400) return response;
    const text = (await readAll(response.body)).toString('utf8');
    throw apiError(response.status, text, { path, home: this.#home });
  }

  async #call(method: string, path: string, signal: AbortSignal, body?: object): Promise<HttpResponse> {
    const headers: Record<string, string> = {};
    if (this.#token !== null) headers.authorization = `Bearer ${this.#token}`;
    if (body !== undefined) headers['content-type'] = 'application/json';
    try {
      const text = body === undefined ? {} : { body: JSON.stringify(body) };
      const response = await request(new URL(path, this.url), { method, headers, signal, ...text });
      return { ...response, body: this.#guarded(response.body, { method, path }, signal) };
    } catch (error) {
      this.signal.throwIfAborted();
      if (signal.aborted) throw this.#timeout(path, error);
      if (isBrokenOff(error)) throw this.#gone({ method, path }, false, error);
      // A daemon writes its URL into a file of its home. After a kill, the file stays, so it does not prove that the
      // daemon runs.
      if (this.#home !== null) throw notRunning(this.#home, this.#role, error);
      throw storageError(
        'DAEMON_NOT_RUNNING',
        `no ${this.#role} answers at ${this.url}`,
        { url: this.url },
        {
          next: `start the ${this.#role}, or check the URL: the ${this.#role} prints it as "api"`,
          cause: error,
        },
      );
    }
  }

  /** Yields the bytes of an answer. @throws SwarmError DAEMON_GONE, DAEMON_TIMEOUT */
  async *#guarded(body: AsyncIterable<Uint8Array>, call: Call, signal: AbortSignal) {
    try {
      yield* body;
    } catch (error) {
      this.signal.throwIfAborted();
      if (signal.aborted) throw isTimeout(signal.reason) ? this.#timeout(call.path, error) : error;
      throw this.#gone(call, true, error);
    }
  }

  #timeout(path: string, cause: unknown): SwarmError {
    const message = `the ${this.#role} at ${this.url} did not answer within ${ANSWER_MS / 1000} s`;
    return coordinatorError('DAEMON_TIMEOUT', message, { url: this.url, path }, { cause });
  }

  #gone({ method, path }: Call, began: boolean, cause: unknown): SwarmError {
    const when = began ? 'before its answer was complete' : 'before it answered';
    const message = `the ${this.#role} at ${this.url} ended, or broke off the connection, ${when} (${method} ${path})`;
    const home = this.#home === null ? '' : ` --home ${this.#home}`;
    const start = this.#role === 'coordinator' ? 'lora-swarm coordinator' : 'lora-swarm node -';
    const check = `, and check with "lora-swarm status${home}" whether the order has taken effect`;
    const next = `read the log of the ${this.#role}; if it does not run any more, start it again with "${start}${home}"${method === 'GET' ? '' : check}`;
    return storageError('DAEMON_GONE', message, { url: this.url, path, began }, { next, cause });
  }
}

interface Call {
  readonly method: string;
  readonly path: string;
}

/** Returns whether a daemon that had accepted a connection closed it. */
function isBrokenOff(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
}

function isTimeout(reason: unknown): boolean {
  return reason instanceof Error && reason.name === 'TimeoutError';
}

async function parsed<T>({ body }: HttpResponse): Promise<T> {
  return JSON.parse((await readAll(body)).toString('utf8'));
}

/** Returns the path of a job in the API. @param id name of the job, its digest or a prefix of the digest */
export function jobPath(id: string): string {
  return `/v1/jobs/${encodeURIComponent(id)}`;
}
