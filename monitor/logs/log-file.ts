import { closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

/** Size at which a log file is rotated. One older file is kept, so the logs of a daemon take about 32 MiB at most. */
export const LOG_FILE_BYTES = 16 * 1024 * 1024;

/**
 * Appends lines to a file and renames the file to `<path>.1` when it is full. When `write` returns, the operating system
 * has the line, so a crash of this process loses no line. A line that cannot be written is dropped, and `write` never
 * throws.
 *
 * pino's own file destination does not rotate files. pino-roll does, but in a worker thread, whose buffer is lost in a
 * crash. It also gives each file a new name, and does not count the files of earlier runs.
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
      // Ignore the error, because the logger's other outputs still get the line.
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
