import type { Generator } from '../../lora/generate/types.ts';
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
 * The versions of adapters that are in the generator's memory. If there are too many, the version that has been unused
 * for the longest time is removed. A version that a request uses is not removed.
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

  /** Loads a version if it is not loaded. It stays until `release` is called. @throws SwarmError ADAPTER_*, LORA_* */
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
      this.#removeUnused();
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
    const loading = this.#inOrder(async () => {
      const { id } = await this.#generator.addAdapter(await folder());
      loaded.id = id;
      return id;
    });
    const loaded: Loaded = { loading, id: null, users: 0 };
    return loaded;
  }

  #removeUnused(): void {
    // The version that was used last stays, because the next request is likely to use it.
    for (const [digest, loaded] of [...this.#loaded].slice(0, -1)) {
      if (this.#loaded.size <= this.#maxLoaded) return;
      const { id, users } = loaded;
      if (users > 0 || id === null) continue;
      this.#loaded.delete(digest);
      this.#inOrder(async () => {
        // Another entry may use the same id: a version with equal content, or this version after it was loaded again.
        if ([...this.#loaded.values()].every((other) => other.id !== id)) {
          await this.#generator.removeAdapter(id);
        }
      }).catch(() => {
        // The generator has ended, and its memory with it.
      });
    }
  }

  /** Runs loads and removals one after the other, so that a removal never hits a version that was loaded again. */
  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }
}
