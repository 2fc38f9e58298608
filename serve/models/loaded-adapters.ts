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
 * The versions of adapters that are in the generator's memory. If all places are taken, a new version takes the place of
 * the version that has been unused for the longest time. A version that a request uses is not removed.
 */
export class LoadedAdapters {
  readonly #maxLoaded: number;
  readonly #generator: Pick<Generator, 'addAdapter' | 'removeAdapter'>;
  /** By digest. The version that was used last is at the end. */
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
   * Loads a version if it is not loaded. It stays until `release` is called.
   * @throws SwarmError SERVE_BUSY if requests use all places, ADAPTER_*, LORA_*
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
      // The next request tries again.
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

  /** Removes an unused version if all places are taken. @throws SwarmError SERVE_BUSY */
  #freePlace(): void {
    if (this.#loaded.size < this.#maxLoaded) return;
    const unused = [...this.#loaded].find(([, { users }]) => users === 0);
    if (unused === undefined) {
      const message = `requests use all ${this.#maxLoaded} adapters that the server may have in memory`;
      throw serveError('SERVE_BUSY', message, { limit: this.#maxLoaded });
    }
    const [digest, { id }] = unused;
    this.#loaded.delete(digest);
    this.#inOrder(async () => {
      // Another entry may use the same id: a version with equal content, or this version after it was loaded again.
      if (id !== null && [...this.#loaded.values()].every((other) => other.id !== id)) {
        await this.#generator.removeAdapter(id);
      }
    }).catch(() => {
      // The generator has ended, and its memory with it.
    });
  }

  /** Runs loads and removals one after the other, so that a removal never hits a version that was loaded again. */
  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }
}
