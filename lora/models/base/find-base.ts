import { statSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { type Environment, processEnvironment } from '../../../common/environment.ts';
import { isSwarmError, type SwarmError } from '../../../common/errors.ts';
import { resolveCache } from '../../../common/files/user-folders.ts';
import { systemClock } from '../../../common/time/system-clock.ts';
import { modelError } from '../errors.ts';
import { isGgufName, openGgufBase } from '../gguf/gguf-base.ts';
import { type FetchModelDeps, type FetchModelOptions, fetchModel } from '../hub/fetch-model.ts';
import { parseHubReference } from '../hub/reference.ts';
import { hubSettings } from '../hub/settings.ts';

export interface FindBaseOptions
  extends Partial<Pick<FetchModelOptions, 'signal' | 'onProgress' | 'onNote'>> {
  /** A model folder, a GGUF file, or `ORG/NAME[@REVISION]` on the hub. An existing folder or file takes precedence. */
  readonly base: string;
  /** Folder that a relative path starts from. @default the current folder */
  readonly folder?: string;
  /** Environment variables, for {@link hubSettings}. @default the environment of this process */
  readonly environment?: Environment;
  /** Folder for models converted from GGUF files. @default SWARM_CACHE, else `lora-swarm` in the user's cache folder */
  readonly cacheDir?: string;
}

/**
 * Returns the folder of a base. First fetches a model from the hub into the shared cache, or converts a GGUF
 * file.
 * @throws SwarmError MODEL_DIR if `base` is not a folder, a GGUF file or a hub name; the errors of
 *   {@link fetchModel} and {@link openGgufBase}
 */
export async function findBase(
  options: FindBaseOptions,
  deps: FetchModelDeps = { fetch, clock: systemClock },
): Promise<string> {
  const { base, folder = process.cwd(), environment = processEnvironment() } = options;
  const { signal = new AbortController().signal, onProgress = () => {}, onNote = () => {} } = options;
  const absolute = absoluteBase(base, folder);
  if (isFolder(absolute)) return absolute;
  if (isGgufFile(absolute)) {
    const { cacheDir = resolveCache(environment, folder) } = options;
    const file = basename(absolute);
    const onConverted = (done: number, total: number) => onProgress({ file, done, total });
    return openGgufBase({ path: absolute, cacheDir, signal, onProgress: onConverted });
  }
  const reference = parseHubReference(absolute);
  if (reference === null) throw notFound(base, absolute);
  try {
    const settings = await hubSettings(environment, folder);
    return await fetchModel({ reference, ...settings, signal, onProgress, onNote }, deps);
  } catch (error) {
    throw isSwarmError(error) && NOT_FOUND.has(error.code) ? mentionFolder(absolute, error) : error;
  }
}

/**
 * Makes a path absolute; returns a hub name unchanged. An existing folder or GGUF file takes precedence over a hub name.
 */
export function absoluteBase(base: string, folder: string): string {
  const path = resolve(folder, base);
  return parseHubReference(base) !== null && !isFolder(path) && !isGgufFile(path) ? base : path;
}

/** Hub errors that a mistyped path can cause. */
const NOT_FOUND: ReadonlySet<string> = new Set(['HUB_NOT_FOUND', 'HUB_UNREACHABLE', 'HUB_CACHE_MISSING']);

function mentionFolder(base: string, error: SwarmError): SwarmError {
  return error.with({ message: `${base} is not a folder, and ${error.message}` });
}

function notFound(base: string, path: string): SwarmError {
  return modelError(
    'MODEL_DIR',
    `${path} is not a folder or a GGUF file, and ${path === base ? 'it' : base} is not a name on the hub (ORG/NAME or ORG/NAME@REVISION)`,
    { model: base, dir: path },
    { next: 'give the path of a model folder or GGUF file, or its name on the hub' },
  );
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function isGgufFile(path: string): boolean {
  return isGgufName(path) && (statSync(path, { throwIfNoEntry: false })?.isFile() ?? false);
}
