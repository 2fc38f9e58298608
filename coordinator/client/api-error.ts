import { type ErrorJson, SwarmError } from '../../common/errors.ts';
import { coordinatorError } from '../errors.ts';

/** Returns the error of an answer with an HTTP status of 400 or more. */
export function apiError(
  status: number,
  text: string,
  where: { path: string; home: string | null },
): SwarmError {
  try {
    const error = JSON.parse(text) as Partial<ErrorJson>;
    if (typeof error.code === 'string' && typeof error.message === 'string') {
      const { code, message, values = {}, kind = 'failed', next = null } = error;
      return SwarmError.fromJSON({ code, message, values, kind, next });
    }
  } catch {
    // The body is not JSON of our API, so the HTTP status decides the code below.
  }
  const code =
    status === 401 || status === 403 ? 'API_REFUSED' : status === 404 ? 'API_NOT_FOUND' : 'API_FAILED';
  return coordinatorError(code, `the daemon answered the request ${where.path} with HTTP status ${status}`, {
    status,
    ...where,
  });
}
