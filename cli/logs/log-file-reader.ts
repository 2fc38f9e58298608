import { type FileHandle, open, stat } from 'node:fs/promises';
import { StringDecoder } from 'node:string_decoder';
import { nullIfMissing } from '../../common/files/file-system.ts';

/** Number of bytes that are read at once. */
const CHUNK_BYTES = 256 * 1024;

/** Reads the lines of a log file as a daemon appends them, also after the daemon has rotated the file. */
export class LogFileReader {
  readonly #path: string;
  #file: FileHandle;
  #position = 0;
  #decoder = new StringDecoder('utf8');
  /** The beginning of a line whose end has not been written yet. */
  #rest = '';

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  /** Opens a log. @returns null if the file does not exist */
  static async open(path: string): Promise<LogFileReader | null> {
    const file = await openIfThere(path);
    return file && new LogFileReader(path, file);
  }

  /** Yields the complete lines that were appended since the previous call. */
  async *lines(): AsyncGenerator<string, void, undefined> {
    for (;;) {
      yield* this.#appended();
      if (!(await this.#wasReplaced())) return;
      // Read the old file once more, because the daemon may have written more lines between the last read and
      // the rotation.
      yield* this.#appended();
      const next = await openIfThere(this.#path);
      if (next === null) return;
      await this.#file.close();
      this.#file = next;
      this.#position = 0;
      this.#decoder = new StringDecoder('utf8');
      this.#rest = '';
    }
  }

  /** Text after the last newline; empty if there is none. A crash can leave such an unfinished line. */
  get unfinished(): string {
    return this.#rest;
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  async *#appended(): AsyncGenerator<string, void, undefined> {
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    for (;;) {
      const { bytesRead } = await this.#file.read(buffer, 0, CHUNK_BYTES, this.#position);
      if (bytesRead === 0) return;
      this.#position += bytesRead;
      const parts = (this.#rest + this.#decoder.write(buffer.subarray(0, bytesRead))).split('\n');
      this.#rest = parts.pop()!;
      for (const part of parts) if (part !== '') yield part;
    }
  }

  /** Returns whether the path leads to another file now, or the file became shorter. */
  async #wasReplaced(): Promise<boolean> {
    const [own, now] = await Promise.all([this.#file.stat(), statIfThere(this.#path)]);
    if (now === null) return false;
    if (now.ino !== own.ino || now.dev !== own.dev) return true;
    if (now.size < this.#position) {
      // The file was emptied, for example by the owner of the machine. Start again at its beginning, where
      // its next lines are.
      this.#position = 0;
      this.#rest = '';
    }
    return false;
  }
}

async function openIfThere(path: string): Promise<FileHandle | null> {
  return open(path, 'r').catch(nullIfMissing);
}

async function statIfThere(path: string) {
  return stat(path).catch(nullIfMissing);
}
