import { HubApiError, listFiles, modelInfo } from '@huggingface/hub';
import { z } from 'zod';
import { isSwarmError } from '../../../common/errors.ts';
import { malformed } from './failures.ts';
import { type HubReference, isCommit } from './reference.ts';
import { type HubDeps, request } from './requests.ts';

export interface HubAccess {
  /** URL of the hub, without a trailing slash. */
  readonly endpoint: string;
  readonly accessToken: string | null;
  /** Maximum number of attempts per request. @default MAX_TRIES */
  readonly tries?: number;
  readonly signal: AbortSignal;
}

/** A file of a model on a hub. */
export interface HubFile {
  readonly path: string;
  readonly size: number;
  /** SHA-256 of the content for large files, else Git's SHA-1. It is also the name of the blob in the cache. */
  readonly etag: string;
}

/** Maximum number of files in a listing. A longer listing of a hub is refused. */
const MAX_FILES = 10_000;

// @huggingface/hub 2.17.5 returns the hub's JSON unchecked, so we check it with this schema.
const entrySchema = z.object({
  type: z.string(),
  path: z.string().max(4096),
  size: z.number().int().nonnegative(),
  oid: z
    .string()
    .regex(/^[0-9a-f]{40}$/)
    .optional(),
  lfs: z.object({ oid: z.string().regex(/^[0-9a-f]{64}$/), size: z.number().int().nonnegative() }).optional(),
});

/** Looks up the current commit of a branch or tag. @throws SwarmError HUB_* */
export async function commitOf(reference: HubReference, access: HubAccess, deps: HubDeps): Promise<string> {
  const { name, revision } = reference;
  const info = await callLibrary(access, () =>
    modelInfo({
      name,
      revision,
      hubUrl: access.endpoint,
      additionalFields: ['sha'],
      fetch: hubFetch(reference, access, deps),
    }),
  );
  if (typeof info.sha !== 'string' || !isCommit(info.sha)) throw malformed(access.endpoint, 'no commit');
  return info.sha;
}

/**
 * Lists the files of a model at a commit: the files in its top folder and in `folders`.
 * @throws SwarmError HUB_*
 */
export async function filesOf(
  reference: HubReference,
  folders: readonly string[],
  access: HubAccess,
  deps: HubDeps,
): Promise<HubFile[]> {
  const { name, revision } = reference;
  const files: HubFile[] = [];
  const wanted = new Set(folders);
  const list = async (folder?: string): Promise<void> => {
    const entries = listFiles({
      repo: { type: 'model', name },
      path: folder,
      revision,
      hubUrl: access.endpoint,
      fetch: hubFetch(reference, access, deps),
    });
    for await (const found of entries) {
      const { success, data } = entrySchema.safeParse(found);
      if (!success || files.length >= MAX_FILES) throw malformed(access.endpoint, 'no valid list of files');
      const etag = data.lfs?.oid ?? data.oid;
      if (data.type === 'directory' && wanted.delete(data.path)) await list(data.path);
      if (data.type !== 'file' || etag === undefined) continue;
      files.push({ path: data.path, size: data.lfs?.size ?? data.size, etag });
    }
  };
  await callLibrary(access, list);
  return files;
}

/**
 * Returns the `fetch` for the library. It adds what @huggingface/hub 2.17.5 lacks: retries with Retry-After, deadlines, and
 * errors from the response's headers, which its HubApiError drops. It also sends the token, because the library refuses
 * tokens that do not begin with `hf_`. Once HubApiError has the headers, and the library retries and accepts any token,
 * this function can be deleted.
 */
function hubFetch(reference: HubReference, access: HubAccess, deps: HubDeps): typeof fetch {
  const { endpoint, accessToken, tries, signal } = access;
  return (url, init) => {
    const headers = Object.fromEntries(new Headers(init?.headers));
    const subject = { reference, file: null, endpoint, token: accessToken !== null };
    return request({ ...subject, url: String(url), headers, accessToken, tries, signal }, deps);
  };
}

/** Calls @huggingface/hub, and maps the errors of that library to HUB_RESPONSE. */
async function callLibrary<T>({ endpoint, signal }: HubAccess, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    signal.throwIfAborted();
    if (isSwarmError(error)) throw error;
    // The response is not the JSON that the library expects.
    throw malformed(endpoint, error instanceof HubApiError ? `status ${error.statusCode}` : 'no valid JSON');
  }
}
