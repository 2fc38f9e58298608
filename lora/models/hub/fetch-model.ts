import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isSwarmError, type SwarmError } from '../../../common/errors.ts';
import { renameWithRetry } from '../../../common/files/durable.ts';
import { freeBytesOf } from '../../../common/files/file-system.ts';
import { DESCRIBED_FILES, TOOL_TEMPLATE_FILE } from '../base/base-identity.ts';
import { MAX_CONFIG_BYTES } from '../base/base-model.ts';
import { parseConfig } from '../families.ts';
import { readJsonObject } from '../json.ts';
import { INDEX_FILE, readWeightMap, SINGLE_FILE } from '../weights/tensors.ts';
import { HubCache } from './cache.ts';
import { hubError } from './errors.ts';
import { diskFull } from './failures.ts';
import { commitOf, filesOf, type HubFile } from './listing.ts';
import { type HubReference, isCommit } from './reference.ts';
import type { HubDeps } from './requests.ts';
import { asDiskFull, transfer } from './transfer.ts';

export interface HubSettings {
  /** @default "https://huggingface.co" */
  readonly endpoint: string;
  /** Folder of the cache that all Hugging Face tools share. */
  readonly cacheDir: string;
  readonly accessToken: string | null;
  /** Whether to use only the cache, and to send no request to the hub. */
  readonly offline: boolean;
}

/** Progress of fetching a base: downloading it from the hub, or converting a GGUF file. */
export interface FetchProgress {
  readonly file: string;
  /** Bytes of all listed files that are on disk. */
  readonly done: number;
  /**
   * Bytes of all files listed so far. This number grows once, because the weights are listed after the config has been
   * checked.
   */
  readonly total: number;
}

export interface FetchModelOptions extends HubSettings {
  readonly reference: HubReference;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: FetchProgress) => void;
  /** Called with a sentence for the user about something that is not an error. */
  readonly onNote: (note: string) => void;
}

export interface FetchModelDeps extends HubDeps {
  /** Returns the free bytes on the disk of a folder. @default freeBytesOf */
  readonly freeBytes?: (dir: string) => Promise<number>;
}

/** Files that are fetched besides the weights, if the model has them. */
const COMPANIONS = [...DESCRIBED_FILES, TOOL_TEMPLATE_FILE];

/** Disk space left free for other programs, in bytes. */
const SPARE_BYTES = 64 * 2 ** 20;

/**
 * Fetches the files of a model that are missing from the shared cache: config, tokenizer, chat template and
 * safetensors, never pickles. Checks the config before it fetches weights. A commit that is complete in the cache needs
 * no request. If the hub cannot be reached, uses the last known commit of a branch and calls `onNote`.
 *
 * @returns the model's folder
 * @throws SwarmError HUB_*; MODEL_UNSUPPORTED before any weights are fetched
 */
export async function fetchModel(options: FetchModelOptions, deps: FetchModelDeps): Promise<string> {
  const { reference, offline, onNote } = options;
  const { name, revision } = reference;
  const cache = new HubCache({ cacheDir: options.cacheDir, name });
  const known = isCommit(revision) ? revision : await cache.commit(revision);
  if (known !== null && isCommit(revision) && (await isComplete(cache, known, true)))
    return cache.snapshot(known);
  const usable = known !== null && (await isComplete(cache, known, false));
  if (offline) {
    if (usable) return cache.snapshot(known);
    throw notCached(reference, options.cacheDir);
  }
  try {
    // If the cache has a usable copy, one attempt is enough, because the copy is used if the hub cannot be reached.
    const access = usable ? { ...options, tries: 1 } : options;
    const commit = isCommit(revision) ? revision : await commitOf(reference, access, deps);
    if (!(await isComplete(cache, commit, true))) {
      await cache.locked(() => fetchCommit(commit, cache, options, deps));
    }
    await cache.recordCommit(revision, commit);
    return cache.snapshot(commit);
  } catch (error) {
    const isTemporary = isSwarmError(error, 'HUB_UNREACHABLE') || isSwarmError(error, 'HUB_UNAVAILABLE');
    if (!isTemporary || !usable) throw asDiskFull(error, options.cacheDir);
    onNote(`${error.message}; using ${name} from the cache, at commit ${known}`);
    return cache.snapshot(known);
  }
}

/**
 * Returns whether the cache has all files that a commit needs.
 * @param withOptional whether to check the optional files too. Each of them must then be in the cache or be known to
 *   be missing from the commit. Other tools may have fetched only some of them.
 */
async function isComplete(cache: HubCache, commit: string, withOptional: boolean): Promise<boolean> {
  for (const file of ['config.json', 'tokenizer.json']) if (!(await cache.has(commit, file))) return false;
  for (const file of withOptional ? COMPANIONS : []) {
    if (!(await cache.has(commit, file)) && !(await cache.isMissing(commit, file))) return false;
  }
  if (await cache.has(commit, SINGLE_FILE)) return true;
  if (!(await cache.has(commit, INDEX_FILE))) return false;
  const shards = new Set((await readWeightMap(join(cache.snapshot(commit), INDEX_FILE))).values());
  for (const shard of shards) if (!(await cache.has(commit, shard))) return false;
  return true;
}

async function fetchCommit(
  commit: string,
  cache: HubCache,
  options: FetchModelOptions,
  deps: FetchModelDeps,
): Promise<void> {
  const reference = { ...options.reference, revision: commit };
  const files = await filesOf(reference, [dirname(TOOL_TEMPLATE_FILE)], options, deps);
  const listed = new Map(files.map((file) => [file.path, file]));
  const wanted = COMPANIONS.flatMap((path) => listed.get(path) ?? []);
  for (const path of ['config.json', 'tokenizer.json'])
    if (!listed.has(path)) throw missingFile(reference, path);
  if (!listed.has(INDEX_FILE) && !listed.has(SINGLE_FILE)) throw missingFile(reference, SINGLE_FILE);
  await cache.prepare();
  const fetcher = new Fetcher({ reference, cache, options }, deps);
  await fetcher.fetchAll(wanted);
  const dir = cache.snapshot(commit);
  parseConfig(await readJsonObject(join(dir, 'config.json'), MAX_CONFIG_BYTES));
  const shards = listed.has(SINGLE_FILE)
    ? [SINGLE_FILE]
    : [...new Set((await readWeightMap(join(dir, INDEX_FILE))).values())];
  const weights = shards.map((path) => {
    const file = listed.get(path);
    if (file === undefined) throw missingFile(reference, path);
    return file;
  });
  await fetcher.fetchAll(weights);
  // Records the missing files last, because these records mark the snapshot as complete.
  for (const path of COMPANIONS) if (!listed.has(path)) await cache.recordMissing(commit, path);
}

interface FetcherOptions {
  readonly cache: HubCache;
  /** The model, with a commit as its revision. */
  readonly reference: HubReference;
  readonly options: FetchModelOptions;
}

/** Fetches lists of files one after the other, and reports progress over all of them. */
class Fetcher {
  readonly #options: FetcherOptions;
  readonly #deps: FetchModelDeps;
  #done = 0;
  #total = 0;

  constructor(options: FetcherOptions, deps: FetchModelDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** @throws SwarmError HUB_DISK_FULL if the files do not fit on the disk, before any file is fetched */
  async fetchAll(files: readonly HubFile[]): Promise<void> {
    const { cache, options } = this.#options;
    this.#total += files.reduce((sum, { size }) => sum + size, 0);
    let missing = 0;
    for (const file of files)
      if (!(await cache.hasBlob(file))) missing += file.size - (await partialSize(cache, file));
    const free = await (this.#deps.freeBytes ?? freeBytesOf)(options.cacheDir);
    if (missing > 0 && missing + SPARE_BYTES > free)
      throw diskFull(options.cacheDir, { needed: missing, free });
    for (const file of files) await this.#fetchOne(file);
  }

  async #fetchOne(file: HubFile): Promise<void> {
    const { cache, reference, options } = this.#options;
    const { path, etag, size } = file;
    const progress = (bytes: number): void =>
      options.onProgress({ file: path, done: this.#done + bytes, total: this.#total });
    if (!(await cache.hasBlob(file))) {
      const { endpoint, accessToken, signal } = options;
      const partial = partialPath(cache, file);
      await transfer(
        { endpoint, accessToken, signal, reference, file, partial, onProgress: progress },
        this.#deps,
      );
      await renameWithRetry(partial, cache.blob(etag));
    }
    await cache.place(reference.revision, path, etag);
    progress(size);
    this.#done += size;
  }
}

function partialPath(cache: HubCache, { etag }: HubFile): string {
  return `${cache.blob(etag)}.incomplete`;
}

function partialSize(cache: HubCache, file: HubFile): Promise<number> {
  return stat(partialPath(cache, file)).then(
    ({ size }) => Math.min(size, file.size),
    () => 0,
  );
}

function missingFile({ name, revision }: HubReference, file: string): SwarmError {
  const next =
    file === SINGLE_FILE
      ? 'choose a model with safetensors, or convert this one with transformers; pickles are not read, because they can run code'
      : 'choose another model, or save this one again with transformers';
  return hubError(
    'HUB_FILE_MISSING',
    `${name} at ${revision} has no ${file}`,
    { name, revision, file },
    { next },
  );
}

function notCached({ name, revision }: HubReference, cacheDir: string): SwarmError {
  return hubError(
    'HUB_CACHE_MISSING',
    `${cacheDir} lacks files of ${name}@${revision}, which cannot be fetched because HF_HUB_OFFLINE is set`,
    { name, revision, cacheDir },
  );
}
