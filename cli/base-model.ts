import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { isSwarmError, type SwarmError } from '../common/errors.ts';
import { formatBytes } from '../common/text.ts';
import { modelError } from '../lora/models/errors.ts';
import { parseHubReference } from '../lora/models/hub/reference.ts';
import type { Context } from './context.ts';
import { hubSettings } from './hub-settings.ts';
import { ProgressLine } from './print.ts';

/** For the help of options that take a base model. */
export const BASE_MODEL = 'a Hugging Face folder, or ORG/NAME[@REVISION] from the hub';

/** Least time over which a rate is told, in milliseconds. */
const RATE_AFTER_MS = 500;

/**
 * What a base model was called, made independent of the folder it was said in: a name on the hub stays, a path becomes
 * absolute. A folder that is there wins.
 */
export function absoluteBase(text: string, folder: string): string {
  const path = resolve(folder, text);
  return parseHubReference(text) !== null && !isFolder(path) ? text : path;
}

/**
 * The folder of a base model: a path as it is, a name on the hub fetched into its cache, with progress on stderr.
 * @throws SwarmError MODEL_DIR it is neither; HUB_* as fetchModel
 */
export async function baseFolder(
  context: Pick<Context, 'cwd' | 'environment' | 'signal' | 'clock' | 'stderr'>,
  text: string,
): Promise<string> {
  const { cwd, environment, signal, clock, stderr } = context;
  const said = absoluteBase(text, cwd);
  if (isFolder(said)) return said;
  const reference = parseHubReference(said);
  if (reference === null) throw neither(text, said);
  const { fetchModel } = await import('../lora/models/hub/fetch-model.ts');
  const line = new ProgressLine(context);
  const rate = new Rate(clock.now());
  try {
    return await fetchModel(
      {
        reference,
        ...(await hubSettings(environment, cwd)),
        signal,
        onProgress: ({ file, done, total }) => {
          const speed = rate.at(clock.now(), done);
          line.update(
            `${file}  ${formatBytes(done)} of ${formatBytes(total)}${speed === null ? '' : `  ${formatBytes(speed)}/s`}`,
          );
        },
        onNote: (note) => {
          line.clear();
          stderr.write(`swarm: ${note}\n`);
        },
      },
      { fetch, clock },
    );
  } catch (error) {
    throw isSwarmError(error) && NOT_THERE.has(error.code) ? noFolderEither(said, error) : error;
  } finally {
    line.clear();
  }
}

/** What the hub says to a mistyped path. */
const NOT_THERE: ReadonlySet<string> = new Set(['HUB_NOT_FOUND', 'HUB_UNREACHABLE', 'HUB_CACHE_MISSING']);

function noFolderEither(text: string, error: SwarmError): SwarmError {
  return error.with({ message: `${text} is not a folder here, and ${error.message}` });
}

/** Bytes per second since the first that was told: what was there before does not count. */
class Rate {
  #from: number;
  #first: number | null = null;

  constructor(now: number) {
    this.#from = now;
  }

  at(now: number, bytes: number): number | null {
    if (this.#first === null) {
      this.#first = bytes;
      this.#from = now;
    }
    const elapsed = now - this.#from;
    // A file that was begun anew takes bytes back.
    return elapsed < RATE_AFTER_MS ? null : Math.max(0, Math.round((1000 * (bytes - this.#first)) / elapsed));
  }
}

function neither(text: string, path: string): SwarmError {
  return modelError(
    'MODEL_DIR',
    `${text} is neither a folder${path === text ? '' : ` (${path})`} nor a name on the hub, ORG/NAME or ORG/NAME@REVISION`,
    { model: text, dir: path },
    { next: 'give the path of a model folder, or its name on the hub' },
  );
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
