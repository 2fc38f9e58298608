import type { SwarmError } from '../../../common/errors.ts';
import { hubError } from './errors.ts';
import type { HubReference } from './reference.ts';

/** What a hub's refusal means. Hugging Face's header X-Error-Code says more than the status. */
export function refusal(
  status: number,
  headers: Headers,
  { reference, file, token, endpoint }: Asked,
): SwarmError {
  const { name, revision } = reference;
  const reason = headers.get('x-error-code') ?? '';
  const values = { name, revision, status, file, endpoint };
  const page = `${endpoint}/${name}`;
  if (reason === 'GatedRepo' || (status === 403 && reason === '')) {
    return hubError(
      'HUB_GATED',
      `${name} is given only to those who have accepted its terms`,
      { ...values },
      {
        next: token
          ? `accept them at ${page} with the account of your token, then run the same command again`
          : `accept them at ${page}, make a token there, and set HF_TOKEN to it`,
      },
    );
  }
  if (reason === 'RevisionNotFound') {
    return hubError(
      'HUB_REVISION_NOT_FOUND',
      `${name} has no branch, tag or commit ${revision}`,
      { ...values },
      { next: `look at ${page}/commits for what there is; without @REVISION the branch main is taken` },
    );
  }
  if (reason === 'EntryNotFound' || (status === 404 && file !== null)) {
    return hubError('HUB_FILE_MISSING', `${name} at ${revision} no longer has ${file}`, values);
  }
  // Hugging Face answers 401 for names that do not exist, so as not to tell which private ones do.
  if (status === 404 || reason === 'RepoNotFound' || (status === 401 && !token)) {
    return hubError(
      'HUB_NOT_FOUND',
      `there is no model ${name} on ${endpoint}, or it is private`,
      { ...values },
      {
        next: token
          ? 'check the name, and that your token may read it'
          : 'check the name; for a private model set HF_TOKEN',
      },
    );
  }
  if (status === 401 || status === 403) {
    return hubError(
      'HUB_UNAUTHORIZED',
      `${endpoint} does not accept the token`,
      { ...values },
      { next: 'make a new one that may read, and set HF_TOKEN to it' },
    );
  }
  return hubError(
    'HUB_RESPONSE',
    `${endpoint} answered ${status} for ${file ?? name}`,
    { ...values },
    { next: 'check HF_ENDPOINT; if it is right, try again later' },
  );
}

export interface Asked {
  readonly reference: HubReference;
  /** Null where the repository itself was asked for. */
  readonly file: string | null;
  /** Whether a token was sent. */
  readonly token: boolean;
  readonly endpoint: string;
}

export function unreachable(endpoint: string, cause: unknown): SwarmError {
  const reason = reasonOf(cause);
  return hubError(
    'HUB_UNREACHABLE',
    `${endpoint} cannot be reached (${reason})`,
    { endpoint, reason },
    { next: 'check the network; a model that was fetched before is used without one', cause },
  );
}

/** fetch says "fetch failed", and why in the cause. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  if (!(cause instanceof Error)) return error.message;
  return 'code' in cause ? String(cause.code) : cause.message;
}

export function malformed(endpoint: string, what: string): SwarmError {
  return hubError(
    'HUB_RESPONSE',
    `${endpoint} answers with ${what}: that is no Hugging Face hub`,
    { endpoint },
    { next: 'check HF_ENDPOINT' },
  );
}

/** A full disk is its own error wherever it is met. */
export function diskFull(
  path: string,
  needed: number | null,
  free: number | null,
  cause?: unknown,
): SwarmError {
  const sizes = needed === null ? '' : `: ${needed} bytes are to come, ${free} are free`;
  return hubError(
    'HUB_DISK_FULL',
    `the disk of ${path} is full${sizes}`,
    { path, needed, free },
    { next: 'free some space, or set HF_HUB_CACHE to a larger disk; what has been fetched stays', cause },
  );
}
