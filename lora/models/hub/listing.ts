import { HubApiError, listFiles, modelInfo } from '@huggingface/hub';
import { z } from 'zod';
import { isSwarmError } from '../../../common/errors.ts';
import { malformed } from './failures.ts';
import { type HubReference, isCommit } from './reference.ts';
import { type HubDeps, request } from './requests.ts';

export interface HubAccess {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly accessToken: string | null;
  /** Tries of one request. @default MAX_TRIES */
  readonly tries?: number;
  readonly signal: AbortSignal;
}

/** A file of a model on a hub. */
export interface HubFile {
  readonly path: string;
  readonly size: number;
  /** SHA-256 of the content for large files, else Git's SHA-1; names the file in the cache. */
  readonly etag: string;
}

/** Most files of a repository that are looked at. */
const MAX_FILES = 10_000;

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

/** The commit that a branch or tag stands for now. @throws SwarmError HUB_* */
export async function commitOf(reference: HubReference, access: HubAccess, deps: HubDeps): Promise<string> {
  const { name, revision } = reference;
  const info = await asked(access, () =>
    modelInfo({
      name,
      revision,
      hubUrl: access.endpoint,
      additionalFields: ['sha'],
      fetch: through(reference, access, deps),
    }),
  );
  if (typeof info.sha !== 'string' || !isCommit(info.sha)) throw malformed(access.endpoint, 'no commit');
  return info.sha;
}

/**
 * Files in the top folder of a model at a commit, and in those of its folders that are named.
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
      fetch: through(reference, access, deps),
    });
    for await (const found of entries) {
      const { success, data } = entrySchema.safeParse(found);
      if (!success || files.length >= MAX_FILES)
        throw malformed(access.endpoint, 'a list of files that is none');
      const etag = data.lfs?.oid ?? data.oid;
      if (data.type === 'directory' && wanted.delete(data.path)) await list(data.path);
      if (data.type !== 'file' || etag === undefined) continue;
      files.push({ path: data.path, size: data.lfs?.size ?? data.size, etag });
    }
  };
  await asked(access, list);
  return files;
}

/** The library's requests, with our tries, deadlines, errors and token (it takes only tokens that begin with hf_). */
function through(reference: HubReference, access: HubAccess, deps: HubDeps): typeof fetch {
  const { endpoint, accessToken, tries, signal } = access;
  return (url, init) => {
    const headers = Object.fromEntries(new Headers(init?.headers));
    const asked = { reference, file: null, endpoint, token: accessToken !== null };
    return request({ ...asked, url: String(url), headers, accessToken, tries, signal }, deps);
  };
}

async function asked<T>({ endpoint, signal }: HubAccess, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    signal.throwIfAborted();
    if (isSwarmError(error)) throw error;
    // What is left is an answer that is not the JSON that was asked for.
    throw malformed(
      endpoint,
      error instanceof HubApiError ? `status ${error.statusCode}` : 'something else than JSON',
    );
  }
}
