import { join } from 'node:path';
import { hubError } from './errors.ts';
import { commitOf, filesOf, type HubAccess } from './listing.ts';
import { type HubReference, isCommit } from './reference.ts';
import type { HubDeps } from './requests.ts';
import { transfer } from './transfer.ts';

export interface DownloadOptions extends HubAccess {
  readonly reference: HubReference;
  /** Files of the repository's top folder, each with the maximum size in bytes that is accepted. */
  readonly files: readonly {
    readonly name: string;
    readonly maxBytes: number;
    readonly optional?: boolean;
  }[];
  /** Existing folder to write to. */
  readonly folder: string;
}

/**
 * Downloads a few files of a repository into `folder`, and checks their sizes and hashes. Does not use the
 * cache of Hugging Face's own tools.
 * @returns the commit that the files belong to
 * @throws SwarmError HUB_FILE_MISSING, HUB_TOO_LARGE, and the errors of `transfer`
 */
export async function downloadFiles(options: DownloadOptions, deps: HubDeps): Promise<string> {
  const { reference, files, folder } = options;
  const { name, revision } = reference;
  const commit = isCommit(revision) ? revision : await commitOf(reference, options, deps);
  const pinned = { name, revision: commit };
  const listed = await filesOf(pinned, [], options, deps);
  for (const wanted of files) {
    const file = listed.find(({ path }) => path === wanted.name);
    if (file === undefined) {
      if (wanted.optional) continue;
      throw hubError('HUB_FILE_MISSING', `${name} at ${commit} has no ${wanted.name}`, {
        name,
        file: wanted.name,
      });
    }
    if (file.size > wanted.maxBytes) {
      const message = `${wanted.name} of ${name} has ${file.size} bytes; the maximum is ${wanted.maxBytes}`;
      throw hubError('HUB_TOO_LARGE', message, {
        name,
        file: wanted.name,
        size: file.size,
        limit: wanted.maxBytes,
      });
    }
    const partial = join(folder, wanted.name);
    await transfer({ ...options, reference: pinned, file, partial, onProgress: () => {} }, deps);
  }
  return commit;
}
