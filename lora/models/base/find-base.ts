import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Environment, processEnvironment } from '../../../common/environment.ts';
import { isSwarmError, type SwarmError } from '../../../common/errors.ts';
import { systemClock } from '../../../common/system-clock.ts';
import { modelError } from '../errors.ts';
import { type FetchModelDeps, type FetchModelOptions, fetchModel } from '../hub/fetch-model.ts';
import { parseHubReference } from '../hub/reference.ts';
import { hubSettings } from '../hub/settings.ts';

export interface FindBaseOptions
  extends Partial<Pick<FetchModelOptions, 'signal' | 'onProgress' | 'onNote'>> {
  /** A model folder, or `ORG/NAME[@REVISION]` on the hub. An existing folder takes precedence. */
  readonly base: string;
  /** Folder that a relative path starts from. @default the current one */
  readonly folder?: string;
  /** Environment variables, for {@link hubSettings}. @default those of this process */
  readonly environment?: Environment;
}

/**
 * Returns the folder of a base. Fetches a hub model into the shared cache first.
 * @throws SwarmError MODEL_DIR `base` is neither a folder nor a hub name; the errors of {@link fetchModel}
 */
export async function findBase(
  options: FindBaseOptions,
  deps: FetchModelDeps = { fetch, clock: systemClock },
): Promise<string> {
  const { base, folder = process.cwd(), environment = processEnvironment() } = options;
  const { signal = new AbortController().signal, onProgress = () => {}, onNote = () => {} } = options;
  const absolute = absoluteBase(base, folder);
  if (isFolder(absolute)) return absolute;
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
 * Makes a path absolute; returns a hub name unchanged. An existing folder takes precedence over a hub name.
 */
export function absoluteBase(base: string, folder: string): string {
  const path = resolve(folder, base);
  return parseHubReference(base) !== null && !isFolder(path) ? base : path;
}

/** Hub errors that a mistyped path can cause. */
const NOT_FOUND: ReadonlySet<string> = new Set(['HUB_NOT_FOUND', 'HUB_UNREACHABLE', 'HUB_CACHE_MISSING']);

function mentionFolder(base: string, error: SwarmError): SwarmError {
  return error.with({ message: `${base} is not a folder, and ${error.message}` });
}

function notFound(base: string, path: string): SwarmError {
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
