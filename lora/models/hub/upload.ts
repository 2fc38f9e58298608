import { openAsBlob } from 'node:fs';
import { createRepo, HubApiError, uploadFiles } from '@huggingface/hub';
import { isSwarmError } from '../../../common/errors.ts';
import { withDeadline } from '../../../common/time/deadline.ts';
import { hubError } from './errors.ts';
import { responseError, unreachable } from './failures.ts';
import type { HubReference } from './reference.ts';
import type { HubDeps } from './requests.ts';

export interface UploadOptions {
  /** The repository to write to. Its `revision` is the name of a branch. */
  readonly reference: HubReference;
  /** URL of the hub, without a trailing slash. */
  readonly endpoint: string;
  readonly accessToken: string | null;
  /** The files to upload: the name of each file in the repository, and its path on this machine. */
  readonly files: readonly { readonly name: string; readonly path: string }[];
  /** First line of the commit's message. */
  readonly title: string;
  /** Whether a repository that does not exist yet becomes private. */
  readonly isPrivate: boolean;
  readonly signal: AbortSignal;
}

/** A commit on a hub. */
export interface UploadedCommit {
  readonly commit: string;
  readonly url: string;
}

/** HTTP status with which a hub answers a request to create a repository that already exists. */
const EXISTS = 409;
/**
 * Deadline for the answer to one request, in milliseconds. It is long because a request may upload a few hundred MiB.
 */
const REQUEST_MS = 10 * 60_000;

/**
 * Uploads files to a model repository on a hub, in one commit. Creates the repository if it does not exist.
 * @throws SwarmError HUB_TOKEN_MISSING, HUB_UNAUTHORIZED, HUB_NOT_FOUND, HUB_RESPONSE, HUB_UNREACHABLE; the signal's reason
 */
export async function uploadToHub(options: UploadOptions, deps: HubDeps): Promise<UploadedCommit> {
  const { reference, endpoint, accessToken, files, title, isPrivate, signal } = options;
  const { name, revision } = reference;
  if (accessToken === null) {
    throw hubError('HUB_TOKEN_MISSING', `an upload to ${endpoint} needs a token`, { endpoint, name });
  }
  const repo = { type: 'model', name } as const;
  const fetch = uploadFetch(options, deps);
  // The library requires a token, and refuses tokens that do not begin with `hf_`. The fetch above sends the real
  // token.
  const credentials = { accessToken: 'hf_' };
  const shared = { repo, hubUrl: endpoint, fetch, ...credentials };
  try {
    await createRepo({ ...shared, visibility: isPrivate ? 'private' : 'public' }).catch((error: unknown) => {
      if (!(error instanceof HubApiError && error.statusCode === EXISTS)) throw error;
    });
    const contents = files.map(async (file) => ({ path: file.name, content: await openAsBlob(file.path) }));
    const uploaded = await uploadFiles({
      ...shared,
      files: await Promise.all(contents),
      commitTitle: title,
      branch: revision,
      // Xet, the hub's other upload protocol, is off, because it needs WebAssembly. It skips the parts of a
      // file that the hub already has, which saves nothing for a new file.
      useXet: false,
      abortSignal: signal,
    });
    const commit = uploaded?.commit;
    if (commit === undefined)
      throw hubError('HUB_RESPONSE', `${endpoint} accepted the upload but made no commit`, {
        endpoint,
        name,
      });
    return { commit: commit.oid, url: commit.url };
  } catch (error) {
    signal.throwIfAborted();
    if (isSwarmError(error)) throw error;
    if (error instanceof HubApiError) {
      const subject = { reference, file: null, token: true, endpoint };
      throw responseError(error.statusCode, new Headers(), subject);
    }
    throw unreachable(endpoint, error);
  }
}

/**
 * Returns the `fetch` function for the hub library. The function adds a deadline and, in requests to the hub
 * itself, the token.
 */
function uploadFetch(
  { endpoint, accessToken, signal }: UploadOptions,
  { clock, fetch }: HubDeps,
): typeof globalThis.fetch {
  return (url, init) => {
    const headers = new Headers(init?.headers);
    headers.delete('authorization');
    const target = url instanceof Request ? url.url : String(url);
    if (new URL(target).origin === new URL(endpoint).origin)
      headers.set('authorization', `Bearer ${accessToken}`);
    const what = `the answer of ${new URL(target).host}`;
    return withDeadline({ clock, ms: REQUEST_MS, signal, what }, (deadline) =>
      fetch(url, { ...init, headers, signal: deadline }),
    );
  };
}
