import { type ErrorJson, type ErrorKind, isSwarmError } from '../../common/errors.ts';
import { coordinatorError } from '../errors.ts';

/** HTTP status of each kind of error that a request can cause. Errors of all other kinds get 422. */
const STATUS: Partial<Record<ErrorKind, number>> = { usage: 400, notFound: 404, conflict: 409 };

/**
 * This program's codes for some of Fastify's errors. All other errors of Fastify about a request get REQUEST_INVALID.
 */
const FASTIFY_CODES: Readonly<Record<string, keyof typeof coordinatorError.table>> = {
  FST_ERR_BAD_URL: 'BAD_URL',
  FST_ERR_CTP_BODY_TOO_LARGE: 'BODY_TOO_LARGE',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'EMPTY_JSON_BODY',
  FST_ERR_CTP_INVALID_JSON_BODY: 'INVALID_JSON_BODY',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'INVALID_MEDIA_TYPE',
};

export function describeError(error: unknown): { status: number; body: ErrorJson } {
  if (isSwarmError(error)) {
    return { status: STATUS[error.kind] ?? 422, body: error.toJSON() };
  }
  // Fastify gives a status below 500 to errors that the request caused.
  if (error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number') {
    const code = FASTIFY_CODES['code' in error ? String(error.code) : ''] ?? 'REQUEST_INVALID';
    if (error.statusCode < 500)
      return { status: error.statusCode, body: coordinatorError(code, error.message).toJSON() };
  }
  return {
    status: 500,
    body: coordinatorError('INTERNAL', 'the coordinator failed to answer the request').toJSON(),
  };
}
