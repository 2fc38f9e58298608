import type { Logger } from '../../common/logger.ts';
import type { Generator } from '../../lora/generate/types.ts';
import { BASE_ALIAS } from '../../protocol/ids.ts';
import { serveError } from '../errors.ts';
import type { AdapterSource, ServedVersion, VersionChoice } from './adapter-source.ts';
import { LoadedAdapters } from './loaded-adapters.ts';

/** Minimum number of digits of an abbreviated digest. */
const MIN_DIGEST = 8;
const DIGEST = /^[0-9a-f]{8,64}$/;

export interface CatalogOptions {
  /** Name of the base in answers. */
  readonly base: string;
  /** Maximum number of adapters in memory. */
  readonly maxLoaded: number;
  readonly sources: readonly AdapterSource[];
}

export interface CatalogDeps {
  readonly generator: Pick<Generator, 'addAdapter' | 'removeAdapter'>;
  /** Returns the current time, in milliseconds since 1970. */
  readonly now: () => number;
  readonly log: Pick<Logger, 'warn'>;
  /** Returns the adapter with this name in the registry; null if there is none. @default there is no registry */
  readonly registry?: (name: string) => Promise<AdapterSource | null>;
}

/** A model that a request uses. It stays in memory until `release` is called. */
export interface Lease {
  /** Name of the model in the request. */
  readonly name: string;
  /** Digest of the adapter's version; null for the base alone. */
  readonly digest: string | null;
  /** Id of the adapter in the generator; undefined for the base alone. */
  readonly adapter: string | undefined;
  release(): void;
}

/** An entry of `/v1/models`. */
export interface ModelEntry {
  readonly id: string;
  readonly created: number;
  /** Name of the base; null for the base itself. */
  readonly parent: string | null;
  /** The base's name, or `NAME@DIGEST` of the current version of an adapter. */
  readonly root: string;
}

/**
 * The models of a server: a base and named adapters. A request names the base, an adapter (`NAME`, `NAME:TAG`,
 * `NAME@DIGEST`) or the digest of a version. Every request looks up its version again, so it gets the newest version of a
 * name whose tag has moved. Requests that are running keep their version.
 */
export class Catalog {
  readonly base: string;
  readonly #deps: CatalogDeps;
  readonly #created: number;
  readonly #sources = new Map<string, AdapterSource>();
  /** Names of the adapters that were chosen when the server was started. Clients cannot remove them. */
  readonly #fixed: ReadonlySet<string>;
  readonly #loaded: LoadedAdapters;

  /** @throws SwarmError MODEL_NAME_TAKEN */
  constructor({ base, maxLoaded, sources }: CatalogOptions, deps: CatalogDeps) {
    this.base = base;
    this.#deps = deps;
    this.#created = Math.floor(deps.now() / 1000);
    this.#loaded = new LoadedAdapters({ maxLoaded }, deps);
    for (const source of sources) this.#add(source);
    this.#fixed = new Set(this.#sources.keys());
  }

  /** Finds and loads the model that a request names. @throws SwarmError MODEL_NOT_SERVED, SERVE_BUSY, ADAPTER_*, LORA_* */
  async lease(name: string): Promise<Lease> {
    const version = await this.find(name);
    if (version === null) return { name, digest: null, adapter: undefined, release: () => {} };
    const { id, release } = await this.#loaded.hold(version);
    return { name, digest: version.digest, adapter: id, release };
  }

  /**
   * Finds the version of an adapter that a model name means. Returns null if the name means the base.
   * @throws SwarmError MODEL_NOT_SERVED; the errors of the source
   */
  async find(name: string): Promise<ServedVersion | null> {
    if (name === this.base || name === BASE_ALIAS) return null;
    const version = await this.#find(name);
    if (version !== null) return version;
    const known = [this.base, ...this.#sources.keys()];
    throw serveError('MODEL_NOT_SERVED', `this server has no model "${name}"`, { model: name, known });
  }

  /**
   * Loads the current version of each adapter that the server serves.
   * @throws SwarmError MODEL_NOT_SERVED, ADAPTER_*, LORA_*
   */
  async preload(): Promise<void> {
    for (const name of this.#sources.keys()) (await this.lease(name)).release();
  }

  /** Lists the base and the named adapters. Leaves out adapters that cannot be read, and logs a warning for each. */
  async list(): Promise<ModelEntry[]> {
    const adapters = [...this.#sources.keys()].map((name) => this.#unlessUnreadable(name, this.entry(name)));
    const found = await Promise.all(adapters);
    return [this.#baseEntry(this.base), ...found.filter((entry) => entry !== null)];
  }

  /** Describes a model. Returns null if it does not exist. */
  async entry(name: string): Promise<ModelEntry | null> {
    if (name === this.base || name === BASE_ALIAS) return this.#baseEntry(name);
    const version = await this.#find(name);
    if (version === null) return null;
    const root = `${parseModelName(name).name}@${version.digest}`;
    return { id: name, created: this.#created, parent: this.base, root };
  }

  /** Adds an adapter of the registry while the server runs. @throws SwarmError MODEL_NOT_SERVED */
  async add(name: string): Promise<void> {
    if (this.#sources.has(name)) return;
    const source = (await this.#deps.registry?.(name)) ?? null;
    if (source === null) {
      const next =
        '"lora-swarm adapter list" on the machine of the server shows the adapters of the registry';
      throw serveError(
        'MODEL_NOT_SERVED',
        `the registry has no adapter "${name}"`,
        { model: name },
        { next },
      );
    }
    this.#add(source);
  }

  /**
   * Removes an adapter that was added while the server runs. Running requests continue to use the adapter.
   * @throws SwarmError MODEL_NOT_SERVED, MODEL_FIXED
   */
  remove(name: string): void {
    if (this.#fixed.has(name)) {
      throw serveError('MODEL_FIXED', `the adapter "${name}" was chosen when the server was started`, {
        model: name,
      });
    }
    if (!this.#sources.delete(name)) {
      throw serveError('MODEL_NOT_SERVED', `the server has no adapter "${name}"`, { model: name });
    }
  }

  #add(source: AdapterSource): void {
    const { name } = source;
    if (name === this.base || name === BASE_ALIAS || this.#sources.has(name)) {
      throw serveError('MODEL_NAME_TAKEN', `two models have the name "${name}"`, { name });
    }
    this.#sources.set(name, source);
  }

  async #find(text: string): Promise<ServedVersion | null> {
    const { name, choice } = parseModelName(text);
    const source = this.#sources.get(name);
    if (source !== undefined) return source.find(choice);
    if (choice !== null || !DIGEST.test(text)) return null;
    for (const source of this.#sources.values()) {
      const version = await this.#unlessUnreadable(source.name, source.find({ digest: text }));
      if (version !== null) return version;
    }
    return null;
  }

  /**
   * Returns the result of `finding`. If `finding` rejects, logs the error and returns null, so that the other adapters
   * are still listed.
   */
  async #unlessUnreadable<T>(name: string, finding: Promise<T | null>): Promise<T | null> {
    try {
      return await finding;
    } catch (error) {
      this.#deps.log.warn({ name, error }, 'adapter-unreadable');
      return null;
    }
  }

  #baseEntry(id: string): ModelEntry {
    return { id, created: this.#created, parent: null, root: this.base };
  }
}

/** Parses `NAME`, `NAME:TAG` or `NAME@DIGEST`. */
function parseModelName(text: string): { name: string; choice: VersionChoice | null } {
  const at = text.lastIndexOf('@');
  if (at > 0 && text.length - at - 1 >= MIN_DIGEST && DIGEST.test(text.slice(at + 1))) {
    return { name: text.slice(0, at), choice: { digest: text.slice(at + 1) } };
  }
  const colon = text.lastIndexOf(':');
  if (colon > 0) return { name: text.slice(0, colon), choice: { tag: text.slice(colon + 1) } };
  return { name: text, choice: null };
}
