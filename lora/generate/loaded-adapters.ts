import type { ServedAdapter } from './adapters.ts';
import { generateError } from './errors.ts';

/** The adapters in memory. An adapter that was removed stays until the last request that uses it has ended. */
export class LoadedAdapters {
  readonly #adapters = new Map<string, ServedAdapter>();
  /** Number of requests that use each adapter. */
  readonly #uses = new Map<ServedAdapter, number>();
  readonly #release: (adapter: ServedAdapter) => Promise<void>;

  constructor(release: (adapter: ServedAdapter) => Promise<void>) {
    this.#release = release;
  }

  get ids(): string[] {
    return [...this.#adapters.keys()];
  }

  add(adapter: ServedAdapter): void {
    if (!this.#adapters.has(adapter.id)) this.#adapters.set(adapter.id, adapter);
  }

  async remove(id: string): Promise<void> {
    const adapter = this.#adapters.get(id);
    this.#adapters.delete(id);
    if (adapter !== undefined && !this.#uses.has(adapter)) await this.#release(adapter);
  }

  /**
   * Calls `work` with an adapter, which stays in memory until the work has ended.
   * @throws SwarmError GENERATE_ADAPTER if no adapter with this id is loaded
   */
  async use<T>(id: string | null, work: (adapter: ServedAdapter | null) => Promise<T>): Promise<T> {
    if (id === null) return work(null);
    const adapter = this.#adapters.get(id);
    if (adapter === undefined)
      throw generateError('GENERATE_ADAPTER', `no adapter ${id} is loaded`, { adapter: id });
    this.#uses.set(adapter, (this.#uses.get(adapter) ?? 0) + 1);
    try {
      return await work(adapter);
    } finally {
      const left = this.#uses.get(adapter)! - 1;
      if (left > 0) this.#uses.set(adapter, left);
      else {
        this.#uses.delete(adapter);
        if (this.#adapters.get(id) !== adapter) await this.#release(adapter);
      }
    }
  }
}
