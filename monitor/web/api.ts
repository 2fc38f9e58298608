/** Requests to the daemon that served this page. */
import type { ErrorJson } from '../../common/errors.ts';
import { forgetToken, takeToken } from './token.ts';

/** The daemon refused a request, or does not answer. */
export class ApiError extends Error {
  /** Code of the error; null if the daemon does not answer. */
  readonly code: string | null;
  /** Advice about what to do next; empty if the daemon gives no advice. */
  readonly next: string;

  constructor({ code, message, next = '' }: { code: string | null; message: string; next?: string }) {
    super(message);
    this.code = code;
    this.next = next;
  }
}

async function send(path: string, init: RequestInit): Promise<Response> {
  const headers = new Headers(init.headers);
  headers.set('authorization', `Bearer ${takeToken() ?? ''}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError({ code: null, message: 'the daemon does not answer' });
  }
  if (response.ok) return response;
  if (response.status === 401) forgetToken();
  // If the answer is not JSON, for example because a proxy sent it, only its status is reported.
  const body = (await response.json().catch(() => null)) as ErrorJson | null;
  throw new ApiError({
    code: body?.code ?? `HTTP_${response.status}`,
    message: body?.message ?? `the daemon answered with status ${response.status}`,
    next: body?.next ?? '',
  });
}

/** @throws ApiError */
export async function get<T>(path: string, signal: AbortSignal | null = null): Promise<T> {
  return (await send(path, { signal })).json() as Promise<T>;
}

/** @throws ApiError */
export async function post<T>(path: string, body: object = {}): Promise<T> {
  return (await send(path, postInit(body))).json() as Promise<T>;
}

/**
 * Time for which lines are parsed without a pause, in milliseconds. It is half of the 16 ms between two
 * frames of the screen, so the browser can draw between the pauses.
 */
const PARSE_MS = 8;

/**
 * Yields the lines of a streamed answer.
 * @param body of a POST request. @default a GET request
 * @throws ApiError
 */
export async function* lines<T>(path: string, signal: AbortSignal, body?: object): AsyncGenerator<T> {
  const response = await send(path, body === undefined ? { signal } : { ...postInit(body), signal });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let since = performance.now();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split('\n');
    rest = parts.pop()!;
    for (const part of parts) {
      if (part !== '') yield JSON.parse(part) as T;
      if (performance.now() - since < PARSE_MS) continue;
      // Lets the browser draw a frame, so that a long history does not freeze the page.
      await new Promise((resolve) => setTimeout(resolve));
      since = performance.now();
    }
  }
  if (rest !== '') yield JSON.parse(rest) as T;
}

function postInit(body: object): RequestInit {
  return { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
}

/** Returns the path of a job in the API. */
export function jobPath(job: string): string {
  return `/v1/jobs/${encodeURIComponent(job)}`;
}
