import { raceSignal } from 'race-signal';
import type { Pause } from '../../protocol/api/node.ts';

/** The pause of a node, which all its jobs share. */
export class Pauses {
  #current: Pause | null = null;
  #isDraining = false;
  #changed = Promise.withResolvers<void>();
  readonly #listeners = new Set<() => void>();

  /** The present pause; null while the node takes work. */
  get current(): Pause | null {
    return this.#current;
  }

  /** Whether the node takes no new work, because it will stop when its present work is done. */
  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Whether the node takes no new work now. */
  get isBlocked(): boolean {
    return this.blocks(false);
  }

  /**
   * Returns whether work must wait.
   * @param isRest whether the work has begun and was interrupted. A node that drains finishes such work
   */
  blocks(isRest: boolean): boolean {
    return this.#current !== null || (this.#isDraining && !isRest);
  }

  set(pause: Pause | null): void {
    const before = this.#current;
    this.#current = pause;
    if (pause?.reason === before?.reason && pause?.until === before?.until) return;
    this.#notify();
  }

  /** From now on, the node takes no new work. */
  drain(): void {
    this.#isDraining = true;
    this.#notify();
  }

  /**
   * Calls the listener whenever the node pauses, resumes or begins to drain. Returns a function that removes
   * the listener.
   */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Resolves when the node may begin new work.
   * @param isRest if true, resolves when the node may continue interrupted work
   * @throws the signal's reason if it aborts first
   */
  async takesWork(signal: AbortSignal, isRest = false): Promise<void> {
    signal.throwIfAborted();
    while (this.blocks(isRest)) await raceSignal(this.#changed.promise, signal);
  }

  /**
   * Runs a fetch of files. When the traffic of the month reaches the owner's limit, aborts the fetch, waits for the end of
   * the pause, and calls `fetch` again, which resumes the download.
   * @throws the errors of `fetch`; the signal's reason
   */
  async whileTrafficLasts(fetch: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      while (servesNoFiles(this)) await raceSignal(this.#changed.promise, signal);
      const pause = new AbortController();
      const removeListener = this.onChange(() => {
        if (servesNoFiles(this)) pause.abort();
      });
      try {
        return await fetch(AbortSignal.any([signal, pause.signal]));
      } catch (error) {
        if (signal.aborted || !pause.signal.aborted) throw error;
      } finally {
        removeListener();
      }
    }
  }

  #notify(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
    for (const listener of this.#listeners) listener();
  }
}

/**
 * Returns whether a node serves no files to other peers now. Files take most of the traffic, so the node stops serving
 * them when the traffic of the month has reached the owner's limit.
 */
export function servesNoFiles({ current }: Pick<Pauses, 'current'>): boolean {
  return current?.reason === 'traffic';
}
