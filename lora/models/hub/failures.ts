import type { SwarmError } from '../../../common/errors.ts';
import { hubError } from './errors.ts';
import type { HubReference } from './reference.ts';

/** The facts about a request that its error messages mention. */
export interface RequestSubject {
  readonly reference: HubReference;
  /** Requested file; null for a request about the repository. */
  readonly file: string | null;
  /** Whether the request contained a token. */
  readonly token: boolean;
  readonly endpoint: string;
}

/**
 * Maps a hub's error response to an error. Uses Hugging Face's header X-Error-Code, which is more specific than the status.
 */
export function responseError(
  status: number,
  headers: Headers,
  { reference, file, token, endpoint }: RequestSubject,
): SwarmError {
  const { name, revision } = reference;
  const reason = headers.get('x-error-code') ?? '';
  const values = { name, revision, status, file, endpoint };
  const page = `${endpoint}/${name}`;
  if (reason === 'GatedRepo' || (status === 403 && reason === '')) {
    return hubError('HUB_GATED', `access to ${name} requires accepting its terms`, values, {
      next: token
        ? `accept them at ${page} with the account of your token, then run the same command again`
        : `accept them at ${page}, create a token there, and set HF_TOKEN to it`,
    });
  }
  if (reason === 'RevisionNotFound') {
    return hubError('HUB_REVISION_NOT_FOUND', `${name} has no branch, tag or commit ${revision}`, values, {
      next: `choose a revision listed at ${page}/commits, or leave out @REVISION to use the branch main`,
    });
  }
  if (reason === 'EntryNotFound' || (status === 404 && file !== null)) {
    return hubError('HUB_FILE_MISSING', `${name} at ${revision} no longer has ${file}`, values);
  }
  // Without a token, Hugging Face answers 401 for names that do not exist, to hide which private models exist.
  if (status === 404 || reason === 'RepoNotFound' || (status === 401 && !token)) {
    return hubError('HUB_NOT_FOUND', `${endpoint} has no model ${name}, or it is private`, values, {
      next: token
        ? 'check the name, and that your token has read access to it'
        : 'check the name; for a private model set HF_TOKEN',
    });
  }
  if (status === 401 || status === 403) {
    return hubError('HUB_UNAUTHORIZED', `${endpoint} does not accept the token`, values);
  }
  return hubError('HUB_RESPONSE', `${endpoint} answered ${status} for ${file ?? name}`, values);
}

export function unreachable(endpoint: string, cause: unknown): SwarmError {
  const reason = reasonOf(cause);
  return hubError(
    'HUB_UNREACHABLE',
    `${endpoint} cannot be reached (${reason})`,
    { endpoint, reason },
    { cause },
  );
}

/**
 * Returns the reason why a fetch failed. The error's own message is only "fetch failed", and the reason is in
 * its `cause`.
 */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  if (!(cause instanceof Error)) return error.message;
  return 'code' in cause ? String(cause.code) : cause.message;
}

export function malformed(endpoint: string, found: string): SwarmError {
  return hubError(
    'HUB_RESPONSE',
    `${endpoint} is not a Hugging Face hub: its response has ${found}`,
    { endpoint },
    { next: 'check HF_ENDPOINT' },
  );
}

/**
 * @param needed bytes still to be written; null if unknown
 * @param free bytes free; null if unknown
 */
export function diskFull(
  path: string,
  { needed, free, cause }: { needed: number | null; free: number | null; cause?: unknown },
): SwarmError {
  const sizes = needed === null ? '' : `: ${needed} bytes are needed, but only ${free} are free`;
  return hubError('HUB_DISK_FULL', `the disk of ${path} is full${sizes}`, { path, needed, free }, { cause });
}
