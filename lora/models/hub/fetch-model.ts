import { rename, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isSwarmError, type SwarmError } from '../../../common/errors.ts';
import { DESCRIBED_FILES, TOOL_TEMPLATE_FILE } from '../base-identity.ts';
import { MAX_CONFIG_BYTES } from '../base-model.ts';
import { parseConfig } from '../families.ts';
import { readJsonObject } from '../json.ts';
import { INDEX_FILE, readWeightMap, SINGLE_FILE } from '../tensors.ts';
import { HubCache } from './cache.ts';
import { hubError } from './errors.ts';
import { diskFull } from './failures.ts';
import { commitOf, filesOf, type HubFile } from './listing.ts';
import { type HubReference, isCommit } from './reference.ts';
import type { HubDeps } from './requests.ts';
import { transfer, writeFault } from './transfer.ts';

export interface HubSettings {
  /** @default "https://huggingface.co" */
  readonly endpoint: string;
  /** Cache that all Hugging Face tools share. */
  readonly cacheDir: string;
  readonly accessToken: string | null;
  /** Ask nobody. */
  readonly offline: boolean;
}

export interface FetchProgress {
  readonly file: string;
  /** Bytes of all files that are there, of all that are wanted. */
  readonly done: number;
  readonly total: number;
}

export interface FetchModelOptions extends HubSettings {
  readonly reference: HubReference;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: FetchProgress) => void;
  /** Something worth knowing that is no error, as a sentence. */
  readonly onNote: (note: string) => void;
}

export interface FetchModelDeps extends HubDeps {
  /** Free bytes on the disk of a folder. @default what the system says */
  readonly freeBytes?: (dir: string) => Promise<number>;
}

/** All that is fetched beside the weights. */
const COMPANIONS = [...DESCRIBED_FILES, TOOL_TEMPLATE_FILE];

/** Room that is left to others on the disk, in bytes. */
const SPARE_BYTES = 64 * 2 ** 20;

/**
 * Fetches a model from a hub into the shared cache, as far as it is not there: config, tokenizer, chat template and
 * safetensors, never pickles. The config is looked at before weights are fetched. A commit that is whole in the cache
 * is used without a request; where there is no network, so is what a branch stood for last, with a note.
 *
 * @returns the model's folder
 * @throws SwarmError HUB_* by what went wrong; MODEL_UNSUPPORTED before any weights are fetched
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
    // With something to go on with, nobody wants to wait.
    const access = usable ? { ...options, tries: 1 } : options;
    const commit = isCommit(revision) ? revision : await commitOf(reference, access, deps);
    if (!(await isComplete(cache, commit, true))) {
      await cache.locked(() => fetchCommit(commit, cache, options, deps));
    }
    await cache.remember(revision, commit);
    return cache.snapshot(commit);
  } catch (error) {
    const away = isSwarmError(error, 'HUB_UNREACHABLE') || isSwarmError(error, 'HUB_UNAVAILABLE');
    if (!away || !usable) throw writeFault(error, options.cacheDir);
    onNote(`${error.message}; ${name} is taken as it was fetched before, at ${known}`);
    return cache.snapshot(known);
  }
}

/**
 * Whether a commit's files are in the cache. `surely`: also of each file that a model may have, whether it has it; other
 * tools fetch only what they want.
 */
async function isComplete(cache: HubCache, commit: string, surely: boolean): Promise<boolean> {
  for (const file of ['config.json', 'tokenizer.json']) if (!(await cache.has(commit, file))) return false;
  for (const file of surely ? COMPANIONS : []) {
    if (!(await cache.has(commit, file)) && !(await cache.lacks(commit, file))) return false;
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
  for (const path of ['config.json', 'tokenizer.json']) if (!listed.has(path)) throw lacking(reference, path);
  if (!listed.has(INDEX_FILE) && !listed.has(SINGLE_FILE)) throw lacking(reference, SINGLE_FILE);
  await cache.prepare();
  const fetched = new Fetcher({ reference, cache, options }, deps);
  await fetched.all(wanted);
  const dir = cache.snapshot(commit);
  parseConfig(await readJsonObject(join(dir, 'config.json'), MAX_CONFIG_BYTES));
  const shards = listed.has(SINGLE_FILE)
    ? [SINGLE_FILE]
    : [...new Set((await readWeightMap(join(dir, INDEX_FILE))).values())];
  const weights = shards.map((path) => {
    const file = listed.get(path);
    if (file === undefined) throw lacking(reference, path);
    return file;
  });
  await fetched.all(weights);
  // Last: a snapshot whose missing files are known is whole.
  for (const path of COMPANIONS) if (!listed.has(path)) await cache.rememberMissing(commit, path);
}

/** Fetches lists of files one after the other, and counts over all of them. */
class Fetcher {
  readonly #about: { reference: HubReference; cache: HubCache; options: FetchModelOptions };
  readonly #deps: FetchModelDeps;
  #done = 0;
  #total = 0;

  constructor(
    about: { reference: HubReference; cache: HubCache; options: FetchModelOptions },
    deps: FetchModelDeps,
  ) {
    this.#about = about;
    this.#deps = deps;
  }

  /** @throws SwarmError HUB_DISK_FULL before anything is fetched that would not fit */
  async all(files: readonly HubFile[]): Promise<void> {
    const { cache, options } = this.#about;
    this.#total += files.reduce((sum, { size }) => sum + size, 0);
    let missing = 0;
    for (const file of files)
      if (!(await cache.hasBlob(file))) missing += file.size - (await partialSize(cache, file));
    const free = await (this.#deps.freeBytes ?? freeBytes)(options.cacheDir);
    if (missing > 0 && missing + SPARE_BYTES > free) throw diskFull(options.cacheDir, missing, free);
    for (const file of files) await this.#one(file);
  }

  async #one(file: HubFile): Promise<void> {
    const { cache, reference, options } = this.#about;
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
      await rename(partial, cache.blob(etag));
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

async function freeBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return bavail * bsize;
}

function lacking({ name, revision }: HubReference, file: string): SwarmError {
  const next =
    file === SINGLE_FILE
      ? 'only safetensors are read, since pickles can run code: choose a model that has them, or convert it with transformers'
      : 'choose another model, or save this one anew with transformers';
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
    `${name}@${revision} is not whole in ${cacheDir}, and HF_HUB_OFFLINE forbids to fetch it`,
    { name, revision, cacheDir },
    { next: 'unset HF_HUB_OFFLINE, or fetch it once where there is a network' },
  );
}
