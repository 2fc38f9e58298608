import type { Generator } from '../../lora/generate/types.ts';
import { serveError } from '../errors.ts';
import type { ServedVersion } from './adapter-source.ts';

interface Loaded {
  /** Resolves to the id that the generator gives the adapter. */
  readonly loading: Promise<string>;
  /** Id in the generator; null until the adapter is loaded. */
  id: string | null;
  users: number;
}

/** An adapter in memory. */
export interface HeldAdapter {
  readonly id: string;
  release(): void;
}

/**
 * The versions of adapters that are in the generator's memory. If the maximum number is loaded, a new version replaces
 * the version that has been unused for the longest time. A version that a request uses is never removed.
 */
export class LoadedAdapters {
  readonly #maxLoaded: number;
  readonly #generator: Pick<Generator, 'addAdapter' | 'removeAdapter'>;
  /** Versions by digest, from the least to the most recently used. */
  readonly #loaded = new Map<string, Loaded>();
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    { maxLoaded }: { maxLoaded: number },
    { generator }: { generator: Pick<Generator, 'addAdapter' | 'removeAdapter'> },
  ) {
    this.#maxLoaded = maxLoaded;
    this.#generator = generator;
  }

  /**
   * Loads a version if it is not loaded yet. The version stays in memory until `release` is called.
   * @throws SwarmError SERVE_BUSY if the maximum number is loaded and requests use all of them; ADAPTER_*, LORA_*
   */
  async hold({ digest, folder }: ServedVersion): Promise<HeldAdapter> {
    const loaded = this.#loaded.get(digest) ?? this.#load(folder);
    this.#loaded.delete(digest);
    this.#loaded.set(digest, loaded);
    loaded.users++;
    let released = false;
    const release = (): void => {
      if (released) return;
      released = true;
      loaded.users--;
    };
    try {
      return { id: await loaded.loading, release };
    } catch (error) {
      // A failed load is forgotten, so that the next request tries again.
      if (this.#loaded.get(digest) === loaded) this.#loaded.delete(digest);
      throw error;
    }
  }

  #load(folder: () => Promise<string>): Loaded {
    this.#freePlace();
    const loading = this.#inOrder(async () => {
      const { id } = await this.#generator.addAdapter(await folder());
      loaded.id = id;
      return id;
    });
    const loaded: Loaded = { loading, id: null, users: 0 };
    return loaded;
  }

  /** Removes an unused version if the maximum number is loaded. @throws SwarmError SERVE_BUSY if none is unused */
  #freePlace(): void {
    if (this.#loaded.size < this.#maxLoaded) return;
    const unused = [...this.#loaded].find(([, { users }]) => users === 0);
    if (unused === undefined) {
      const message = `the server has ${this.#maxLoaded} adapters in memory, its maximum, and requests use all of them`;
      throw serveError('SERVE_BUSY', message, { limit: this.#maxLoaded });
    }
    const [digest, { id }] = unused;
    this.#loaded.delete(digest);
    this.#inOrder(async () => {
      // The id belongs to the content of the adapter. Keep the content while the id is in use: by another version with
      // equal content, or by this version, loaded again.
      if (id !== null && [...this.#loaded.values()].every((other) => other.id !== id)) {
        await this.#generator.removeAdapter(id);
      }
    }).catch(() => {
      // The removal fails only if the generator has ended, and the memory of the adapter is then already free.
    });
  }

  /** Runs loads and removals one after the other, so that no removal unloads a version that was loaded again. */
  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }
}
