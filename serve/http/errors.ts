import { type ErrorKind, isSwarmError, type SwarmError } from '../../common/errors.ts';
import { serveError } from '../errors.ts';
import { BODY_BYTES } from './fields.ts';

/** An error in the form of OpenAI's API. Clients show `message`, and distinguish errors by `code`. */
export interface OpenAiError {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string;
  };
}

/** An error as an HTTP answer. */
export interface ErrorAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: OpenAiError;
}

/**
 * HTTP status and code in the answer for the errors that clients tell apart, by our error code. For an error
 * that is missing here, the answer contains our error code in lower case.
 */
const KNOWN: Readonly<Record<string, { status: number; code: string }>> = {
  API_KEY_WRONG: { status: 401, code: 'invalid_api_key' },
  CONTEXT_TOO_LONG: { status: 400, code: 'context_length_exceeded' },
  DEADLINE_EXCEEDED: { status: 503, code: 'engine_busy' },
  GENERATE_ADAPTER: { status: 404, code: 'model_not_found' },
  GENERATE_BUSY: { status: 503, code: 'server_overloaded' },
  GENERATE_TOO_LONG: { status: 400, code: 'context_length_exceeded' },
  GENERATOR_CLOSED: { status: 503, code: 'server_stopping' },
  GENERATOR_DIED: { status: 503, code: 'engine_failed' },
  HOST_REFUSED: { status: 403, code: 'host_refused' },
  MODEL_FIXED: { status: 403, code: 'model_fixed' },
  MODEL_NOT_SERVED: { status: 404, code: 'model_not_found' },
  SERVE_BUSY: { status: 503, code: 'server_overloaded' },
  // nginx uses the status 499 for a client that has disconnected. The answer itself is never sent.
  SERVE_CLIENT_GONE: { status: 499, code: 'client_gone' },
  SERVE_NO_ROUTE: { status: 404, code: 'unknown_url' },
  SERVE_PARAMETER: { status: 400, code: 'unsupported_parameter' },
  SERVE_REQUEST: { status: 400, code: 'invalid_request' },
  SERVE_STOPPING: { status: 503, code: 'server_stopping' },
  SERVE_TOO_MANY: { status: 429, code: 'rate_limit_exceeded' },
};

/**
 * HTTP status of errors whose code has no entry in the table above, by their kind. Errors of all other kinds
 * get 500.
 */
const STATUS_OF_KIND: Partial<Record<ErrorKind, number>> = { usage: 400, notFound: 404 };

/** Default of the header Retry-After in seconds, by HTTP status. Answers with other statuses have no such header. */
const RETRY_SECONDS: Readonly<Record<number, number>> = { 429: 1, 503: 1 };

const TOO_LARGE = `the body of the request is larger than ${BODY_BYTES / 2 ** 20} MiB; send less in one request`;

/** Returns the answer to a request that failed. An unexpected error is not described, because it may name local paths. */
export function errorAnswer(error: unknown): ErrorAnswer {
  if (isSwarmError(error)) return describe(error);
  // An error of Fastify that the request caused has a status below 500.
  if (error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number') {
    const { statusCode: status, message } = error;
    // Fastify's own message lacks the limit.
    const text = status === 413 ? TOO_LARGE : message;
    if (status < 500) return answer(status, text, { code: 'invalid_request' });
  }
  return describe(serveError('SERVE_FAILED', 'the server failed to answer the request'));
}

function describe(error: SwarmError): ErrorAnswer {
  const { code, kind, message, next, values } = error;
  const known = KNOWN[code];
  const status = known?.status ?? STATUS_OF_KIND[kind] ?? 500;
  const text = next === null || status >= 500 ? message : `${message}; ${next}`;
  const param = typeof values.param === 'string' ? values.param : null;
  const retryAfter = typeof values.retryAfter === 'number' ? values.retryAfter : RETRY_SECONDS[status];
  return answer(status, text, { code: known?.code ?? code.toLowerCase(), param, retryAfter });
}

function answer(
  status: number,
  message: string,
  {
    code,
    param = null,
    retryAfter,
  }: { code: string; param?: string | null; retryAfter?: number | undefined },
): ErrorAnswer {
  const type = status === 429 ? 'rate_limit_error' : status < 500 ? 'invalid_request_error' : 'server_error';
  const headers: Record<string, string> =
    retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) };
  if (status === 401) headers['www-authenticate'] = 'Bearer';
  return { status, headers, body: { error: { message, type, param, code } } };
}
