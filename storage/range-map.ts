import { readFile, writeFile } from 'node:fs/promises';
import { isSystemError } from '../common/errors.ts';
import { renameWithRetry } from '../common/files/durable.ts';

const HEAD_BYTES = 8;
/** Error codes after which a later attempt to read the same file would fail too: missing, forbidden, or a damaged disk. */
const LOST = ['ENOENT', 'EACCES', 'EPERM', 'EIO'];

/** Returns the result of opening or reading a file of an earlier fetch; null if the file is lost. */
export async function unlessLost<Result>(opening: Promise<Result>): Promise<Result | null> {
  try {
    return await opening;
  } catch (error) {
    // After other errors, such as too many open files, the bytes of the earlier fetch may still be good.
    if (!isSystemError(error, ...LOST)) throw error;
    return null;
  }
}

/** The set of present ranges of a blob: one bit per range, saved in a file. A file for another blob size is ignored. */
export class RangeMap {
  readonly #path: string;
  readonly #size: number;
  readonly #bits: Uint8Array;
  #count = 0;
  /**
   * Settles when the last save has ended. Each save waits for the save before it, because all use one temporary file.
   */
  #saving: Promise<void> = Promise.resolve();

  /**
   * @param size size of the blob in bytes. The file contains the size too, so that a map for another size is
   * recognised.
   */
  constructor(path: string, size: number, ranges: number) {
    this.#path = path;
    this.#size = size;
    this.#bits = new Uint8Array(Math.ceil(ranges / 8));
  }

  get count(): number {
    return this.#count;
  }

  has(range: number): boolean {
    return ((this.#bits[range >> 3] ?? 0) & (1 << (range & 7))) !== 0;
  }

  add(range: number): void {
    if (this.has(range)) return;
    this.#bits[range >> 3]! |= 1 << (range & 7);
    this.#count++;
  }

  clear(): void {
    this.#bits.fill(0);
    this.#count = 0;
  }

  /** Loads the saved map. Returns false if no readable map is saved for a blob of this size. */
  async load(ranges: number): Promise<boolean> {
    const bytes = await unlessLost(readFile(this.#path));
    if (bytes === null || bytes.length !== HEAD_BYTES + this.#bits.length) return false;
    if (bytes.readBigUInt64LE() !== BigInt(this.#size)) return false;
    this.#bits.set(bytes.subarray(HEAD_BYTES));
    for (let range = 0; range < ranges; range++) if (this.has(range)) this.#count++;
    return true;
  }

  save(): Promise<void> {
    this.#saving = this.#saving
      .catch(() => {})
      .then(async () => {
        const head = Buffer.alloc(HEAD_BYTES);
        head.writeBigUInt64LE(BigInt(this.#size));
        await writeFile(`${this.#path}.tmp`, Buffer.concat([head, this.#bits]));
        await renameWithRetry(`${this.#path}.tmp`, this.#path);
      });
    return this.#saving;
  }
}
