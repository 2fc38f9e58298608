import { SwarmError } from '../../../common/errors.ts';
import type { Clock } from '../../../common/time/clock.ts';
import { sleep } from '../../../common/time/deadline.ts';
import { hubError } from './errors.ts';
import { type RequestSubject, responseError, unreachable } from './failures.ts';

/** Maximum number of attempts at one request, and at a transfer that makes no progress. */
export const MAX_TRIES = 5;
/** Pause before the second attempt, in milliseconds. It doubles before each further attempt. */
export const FIRST_PAUSE_MS = 1_000;
/**
 * Maximum pause in milliseconds. If a hub asks for a longer pause with Retry-After, the request ends with an error.
 */
export const MAX_PAUSE_MS = 60_000;
/** Deadline for the first byte of a response, in milliseconds. */
export const ANSWER_MS = 30_000;

export interface HubDeps {
  readonly fetch: typeof fetch;
  readonly clock: Clock;
}

export interface RequestOptions extends RequestSubject {
  readonly url: string;
  readonly accessToken: string | null;
  readonly headers?: Readonly<Record<string, string>>;
  /** HTTP statuses besides 2xx that the caller handles. Other statuses are errors. */
  readonly accept?: readonly number[];
  /** @default MAX_TRIES */
  readonly tries?: number;
  readonly signal: AbortSignal;
}

/**
 * Sends a GET request, with retries after temporary failures: no connection, 429, 5xx. Sends the token only to the
 * endpoint, and not to another host to which a redirect leads.
 *
 * @throws SwarmError HUB_UNREACHABLE, HUB_RATE_LIMITED, HUB_UNAVAILABLE; the errors of responseError; the signal's
 *   reason
 */
export async function request(options: RequestOptions, deps: HubDeps): Promise<Response> {
  const { url, endpoint, accessToken, signal, accept = [], tries = MAX_TRIES } = options;
  const own = new URL(url).origin === new URL(endpoint).origin;
  const headers = new Headers(options.headers);
  if (own && accessToken !== null) headers.set('authorization', `Bearer ${accessToken}`);
  for (let tried = 1; ; tried++) {
    let failure: SwarmError;
    let pause = FIRST_PAUSE_MS * 2 ** (tried - 1);
    try {
      const response = await fetchWithDeadline(url, headers, signal, deps);
      if (response.ok || accept.includes(response.status)) return response;
      await response.body?.cancel();
      if (response.status !== 429 && response.status < 500) {
        throw responseError(response.status, response.headers, {
          ...options,
          token: own && accessToken !== null,
        });
      }
      failure = temporaryError(response.status, endpoint);
      pause = retryAfter(response.headers, deps.clock) ?? pause;
    } catch (cause) {
      signal.throwIfAborted();
      if (cause instanceof SwarmError) throw cause;
      failure = unreachable(endpoint, cause);
    }
    if (tried >= tries || pause > MAX_PAUSE_MS) throw withRetryTime(failure, pause);
    await sleep(deps.clock, pause, signal);
  }
}

/** Applies the deadline only to the response's headers, because the time for a body depends on its size. */
async function fetchWithDeadline(
  url: string,
  headers: Headers,
  signal: AbortSignal,
  { fetch, clock }: HubDeps,
): Promise<Response> {
  const deadline = new AbortController();
  const cancel = clock.after(ANSWER_MS, () =>
    deadline.abort(new Error(`no answer for ${ANSWER_MS / 1000} s`)),
  );
  try {
    return await fetch(url, { headers, signal: AbortSignal.any([signal, deadline.signal]) });
  } finally {
    cancel();
  }
}

function temporaryError(status: number, endpoint: string): SwarmError {
  return status === 429
    ? hubError('HUB_RATE_LIMITED', `${endpoint} allows no more requests for now`, { endpoint, status })
    : hubError('HUB_UNAVAILABLE', `${endpoint} has an internal error (${status})`, { endpoint, status });
}

/** If the hub asked for a pause longer than MAX_PAUSE_MS, adds the length of the pause to the error and its advice. */
function withRetryTime(failure: SwarmError, pause: number): SwarmError {
  if (pause <= MAX_PAUSE_MS) return failure;
  const seconds = Math.ceil(pause / 1000);
  const next = `try again in ${seconds} s, as the hub asks`;
  return failure.with({ values: { ...failure.values, seconds }, next });
}

/**
 * Reads the header Retry-After (RFC 9110, section 10.2.3), which has seconds or a date. Returns milliseconds; null if
 * the header is missing or malformed.
 */
function retryAfter(headers: Headers, clock: Clock): number | null {
  const value = headers.get('retry-after');
  if (value === null) return null;
  const seconds = Number(value);
  if (Number.isFinite(seconds)) return Math.max(0, seconds * 1000);
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, date - clock.now());
}
