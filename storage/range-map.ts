import { readFile, rename, writeFile } from 'node:fs/promises';

const HEAD_BYTES = 8;

/** Which ranges of a blob are here: one bit each, kept in a file that is worth nothing once it does not fit. */
export class RangeMap {
  readonly #path: string;
  readonly #size: number;
  readonly #bits: Uint8Array;
  #count = 0;
  /** Saves one after the other: they share the name of the file they write before they rename it. */
  #saving: Promise<void> = Promise.resolve();

  /** @param size bytes of the blob, written down too so that a map is never taken for one of another cut */
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

  /** Takes up what was saved; false when there is nothing that fits. */
  async load(ranges: number): Promise<boolean> {
    const bytes = await readFile(this.#path).catch(() => null);
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
        await rename(`${this.#path}.tmp`, this.#path);
      });
    return this.#saving;
  }
}
