import type { BigIntStats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { makeFolder } from '../../../common/files/folders.ts';
import { digestOf, digestRecords } from '../base/digest-cache.ts';
import { modelError } from '../errors.ts';
import { openFile } from '../json.ts';
import { type ImportGgufOptions, importGguf } from './import-model.ts';

/** Incremented when conversion changes its results, so that folders of older versions are not used. */
const CONVERSION_VERSION = 1;

export interface GgufBaseOptions extends Pick<ImportGgufOptions, 'path' | 'signal' | 'onProgress'> {
  /**
   * Cache folder. The converted model is written to its subfolder `gguf/<digest of the file>-v<version>/<name of the
   * file>`.
   */
  readonly cacheDir: string;
}

/** Returns whether a path names a GGUF file. */
export function isGgufName(path: string): boolean {
  return path.toLowerCase().endsWith('.gguf');
}

/**
 * Returns the Hugging Face folder of the model in a GGUF file. Converts the file on the first call. Later calls find the
 * folder by the digest of the file.
 * @throws SwarmError the errors of importGguf; GGUF_CHANGED if the file changed meanwhile; FOLDER_UNUSABLE
 */
export async function openGgufBase({ path, cacheDir, signal, onProgress }: GgufBaseOptions): Promise<string> {
  const { handle } = await openFile(path);
  const before = await handle.stat({ bigint: true });
  const { digest } = await digestOf(path, handle, { records: digestRecords(cacheDir), signal });
  const parent = join(cacheDir, 'gguf', `${digest}-v${CONVERSION_VERSION}`);
  const output = join(parent, basename(path).replace(/\.gguf$/i, ''));
  if (await isFolder(output)) return output;
  await makeFolder(parent, { next: 'set SWARM_CACHE to a folder that you may write to' });
  try {
    // The folder is named after the digest computed above, but the conversion opens the file again. The file must
    // therefore be unchanged when the conversion ends.
    const beforeRename = () => requireSame(path, before);
    await importGguf({ path, output, signal, onProgress, beforeRename });
  } catch (error) {
    // Ignore the error if another process has converted the file in the meantime.
    if (!(await isFolder(output))) throw error;
  }
  return output;
}

/** @throws SwarmError GGUF_CHANGED */
async function requireSame(path: string, before: BigIntStats): Promise<void> {
  // A file that has been deleted counts as changed.
  const now = await stat(path, { bigint: true }).catch(() => null);
  if (now?.ino === before.ino && now.size === before.size && now.mtimeNs === before.mtimeNs) return;
  throw modelError('GGUF_CHANGED', `${path} changed while it was being converted`, { file: path });
}

async function isFolder(path: string): Promise<boolean> {
  // A path that cannot be read does not count as a folder. The caller opens it as a file, and that error says why.
  return (await stat(path).catch(() => null))?.isDirectory() ?? false;
}
