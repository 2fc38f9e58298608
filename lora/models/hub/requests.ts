import type { Clock } from '../../../common/clock.ts';
import { SwarmError } from '../../../common/errors.ts';
import { hubError } from './errors.ts';
import { type Asked, refusal, unreachable } from './failures.ts';

/** Tries of one request, and of a transfer that gets no further, before giving up. */
export const MAX_TRIES = 5;
/** Pause before the second try, in milliseconds; it doubles with each further one. */
export const FIRST_PAUSE_MS = 1_000;
/** Longest pause that a hub may ask for with Retry-After; beyond that the command ends and says so. */
export const MAX_PAUSE_MS = 60_000;
/** A hub that has not begun to answer after this long is taken for gone, in milliseconds. */
export const ANSWER_MS = 30_000;

export interface HubDeps {
  readonly fetch: typeof fetch;
  readonly clock: Clock;
}

export interface RequestOptions extends Asked {
  readonly url: string;
  readonly accessToken: string | null;
  readonly headers?: Readonly<Record<string, string>>;
  /** Answers besides 2xx that the caller takes. */
  readonly accept?: readonly number[];
  /** @default MAX_TRIES */
  readonly tries?: number;
  readonly signal: AbortSignal;
}

/**
 * One GET, tried again after what may pass: no connection, 429, 5xx. The token goes to the endpoint alone; redirects to
 * another host lose it.
 *
 * @throws SwarmError HUB_* (see refusal), HUB_UNREACHABLE, HUB_RATE_LIMITED, HUB_UNAVAILABLE; the signal's reason
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
      const response = await answered(url, headers, signal, deps);
      if (response.ok || accept.includes(response.status)) return response;
      await response.body?.cancel();
      if (response.status !== 429 && response.status < 500) {
        throw refusal(response.status, response.headers, { ...options, token: own && accessToken !== null });
      }
      failure = busy(response.status, endpoint);
      pause = retryAfter(response.headers, deps.clock) ?? pause;
    } catch (cause) {
      signal.throwIfAborted();
      if (cause instanceof SwarmError) throw cause;
      failure = unreachable(endpoint, cause);
    }
    if (tried >= tries || pause > MAX_PAUSE_MS) throw waited(failure, pause);
    await sleep(pause, signal, deps.clock);
  }
}

/** The deadline is for the beginning of the answer: bodies take as long as they are large. */
async function answered(
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

function busy(status: number, endpoint: string): SwarmError {
  return status === 429
    ? hubError(
        'HUB_RATE_LIMITED',
        `${endpoint} has had too many requests from here`,
        { endpoint, status },
        { next: 'try again later; with a token in HF_TOKEN more are allowed' },
      )
    : hubError(
        'HUB_UNAVAILABLE',
        `${endpoint} has a fault of its own (${status})`,
        { endpoint, status },
        { next: 'try again later; what has been fetched stays' },
      );
}

function waited(failure: SwarmError, pause: number): SwarmError {
  if (pause <= MAX_PAUSE_MS) return failure;
  const seconds = Math.ceil(pause / 1000);
  const next = `try again in ${seconds} s, as it asks`;
  return failure.with({ values: { ...failure.values, seconds }, next });
}

/** Seconds, or a date (RFC 9110, section 10.2.3); null where the header is missing or neither. */
function retryAfter(headers: Headers, clock: Clock): number | null {
  const value = headers.get('retry-after');
  if (value === null) return null;
  const seconds = Number(value);
  if (Number.isFinite(seconds)) return Math.max(0, seconds * 1000);
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, date - clock.now());
}

/** Rejects with the signal's reason. */
export function sleep(ms: number, signal: AbortSignal, clock: Clock): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const stop = (): void => {
      cancel();
      reject(signal.reason);
    };
    const cancel = clock.after(ms, () => {
      signal.removeEventListener('abort', stop);
      resolve();
    });
    signal.addEventListener('abort', stop, { once: true });
  });
}
