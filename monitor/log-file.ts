import { closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

/** A log file is set aside at this size, and one older one is kept: a daemon's logs stay under twice this. */
export const LOG_FILE_BYTES = 16 * 1024 * 1024;

/**
 * Appends lines to a file and sets it aside as `<path>.1` when full. Writes at once: a crash loses nothing. A line that the
 * disk does not take is lost, and nothing else: whoever logs must not fail for it.
 */
export class LogFile {
  readonly #path: string;
  readonly #maxBytes: number;
  #fd: number;
  #bytes: number;

  constructor(path: string, { maxBytes = LOG_FILE_BYTES }: { maxBytes?: number } = {}) {
    this.#path = path;
    this.#maxBytes = maxBytes;
    mkdirSync(dirname(path), { recursive: true });
    this.#fd = openSync(path, 'a', 0o600);
    this.#bytes = fstatSync(this.#fd).size;
  }

  write(line: string): void {
    try {
      if (this.#bytes >= this.#maxBytes) this.#setAside();
      this.#bytes += writeSync(this.#fd, line);
    } catch {
      // The other outputs have it.
    }
  }

  #setAside(): void {
    renameSync(this.#path, `${this.#path}.1`);
    const full = this.#fd;
    this.#fd = openSync(this.#path, 'a', 0o600);
    this.#bytes = 0;
    closeSync(full);
  }
}
