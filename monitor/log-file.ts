import { closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

/** The size at which a log file is rotated. One older file is kept, so the logs of a daemon stay under 32 MiB. */
export const LOG_FILE_BYTES = 16 * 1024 * 1024;

/**
 * Appends lines to a file and renames it to `<path>.1` when it is full. A line is on its way to the disk when `write`
 * returns, so a crash loses none. A line that the disk refuses is dropped: logging never throws.
 *
 * pino's own file destination does not rotate. pino-roll rotates, but from a worker thread whose buffer a crash loses, under
 * names that change with each file, and it does not count the files of earlier runs.
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
      if (this.#bytes >= this.#maxBytes) this.#rotate();
      this.#bytes += writeSync(this.#fd, line);
    } catch {
      // The other outputs have the line.
    }
  }

  #rotate(): void {
    renameSync(this.#path, `${this.#path}.1`);
    const full = this.#fd;
    this.#fd = openSync(this.#path, 'a', 0o600);
    this.#bytes = 0;
    closeSync(full);
  }
}
