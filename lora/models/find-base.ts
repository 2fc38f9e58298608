import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import { modelError } from './errors.ts';
import { type FetchModelDeps, type FetchModelOptions, fetchModel } from './hub/fetch-model.ts';
import { parseHubReference } from './hub/reference.ts';
import { hubSettings } from './hub/settings.ts';

export interface FindBaseOptions extends Pick<FetchModelOptions, 'signal' | 'onProgress' | 'onNote'> {
  /** A model folder, or `ORG/NAME[@REVISION]` on the hub. A folder that exists wins. */
  readonly base: string;
  /** Folder that a relative path starts from. */
  readonly folder: string;
  /** Environment variables, for {@link hubSettings}. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/**
 * Returns the folder of a base model. A name on the hub is fetched into the hub's cache first.
 * @throws SwarmError MODEL_DIR when it is neither a folder nor a name; HUB_* as {@link fetchModel}
 */
export async function findBase(options: FindBaseOptions, deps: FetchModelDeps): Promise<string> {
  const { base, folder, environment, signal, onProgress, onNote } = options;
  const absolute = absoluteBase(base, folder);
  if (isFolder(absolute)) return absolute;
  const reference = parseHubReference(absolute);
  if (reference === null) throw neither(base, absolute);
  try {
    const settings = await hubSettings(environment, folder);
    return await fetchModel({ reference, ...settings, signal, onProgress, onNote }, deps);
  } catch (error) {
    throw isSwarmError(error) && NOT_FOUND.has(error.code) ? noFolderEither(absolute, error) : error;
  }
}

/**
 * Makes the location of a base independent of the folder that it is relative to: a path becomes absolute, a name on the
 * hub stays. A folder that exists wins.
 */
export function absoluteBase(base: string, folder: string): string {
  const path = resolve(folder, base);
  return parseHubReference(base) !== null && !isFolder(path) ? base : path;
}

/** Codes of the hub that a mistyped path leads to. */
const NOT_FOUND: ReadonlySet<string> = new Set(['HUB_NOT_FOUND', 'HUB_UNREACHABLE', 'HUB_CACHE_MISSING']);

function noFolderEither(base: string, error: SwarmError): SwarmError {
  return error.with({ message: `${base} is not a folder here, and ${error.message}` });
}

function neither(base: string, path: string): SwarmError {
  return modelError(
    'MODEL_DIR',
    `${base} is neither a folder${path === base ? '' : ` (${path})`} nor a name on the hub (ORG/NAME or ORG/NAME@REVISION)`,
    { model: base, dir: path },
    { next: 'give the path of a model folder, or its name on the hub' },
  );
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
