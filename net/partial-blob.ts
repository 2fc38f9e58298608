import { type FileHandle, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SwarmError } from '../protocol/errors.ts';
import { BLOB_RANGE_BYTES } from '../protocol/limits.ts';
import { writeError } from './durable.ts';
import { type Done, type RunningHash, startHash } from './running-hash.ts';

export interface PartialBlobOptions {
  digest: string;
  /** Bytes of the whole blob. */
  size: number;
  folder: string;
  /** Bytes that the disk still takes. */
  freeBytes: number;
}

/** Ranges that may wait in memory for their turn in the hash; others are read back when it comes. */
export const HELD_RANGES = 4;
/** Ranges written between two saves of the map: a killed process fetches at most this many again. */
const RANGES_PER_SAVE = 32;

/**
 * A blob that is arriving in ranges, in any order: `<folder>/<digest>` holds the bytes, `<digest>.map` one bit per
 * range. Neither need be durable, since nothing is believed before the digest of the whole fits.
 */
export class PartialBlob {
  readonly size: number;
  readonly ranges: number;
  /** Whether an earlier attempt left ranges whose origin is not known any more. */
  resumed: boolean;
  readonly #digest: string;
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #adopt: (file: string) => Promise<void>;
  #map: Uint8Array;
  #hash: RunningHash | undefined;
  /** Ranges below this one are in the hash, or on their way to it. */
  #hashed = 0;
  readonly #held = new Map<number, { bytes: Uint8Array; release: Done }>();
  readonly #writing = new Set<number>();
  #catchingUp: Promise<void> | undefined;
  #unsaved = 0;
  #done: number;

  private constructor(
    options: PartialBlobOptions,
    file: FileHandle,
    map: Uint8Array,
    adopt: (file: string) => Promise<void>,
  ) {
    this.size = options.size;
    this.ranges = rangesOf(options.size);
    this.#digest = options.digest;
    this.#path = join(options.folder, options.digest);
    this.#file = file;
    this.#map = map;
    this.#adopt = adopt;
    this.#done = 0;
    for (let i = 0; i < this.ranges; i++) if (this.has(i)) this.#done++;
    this.resumed = this.#done > 0;
  }

  /** @throws SwarmError STORE_FULL when the disk has less room than the blob still needs */
  static async open(
    options: PartialBlobOptions,
    adopt: (file: string) => Promise<void>,
  ): Promise<PartialBlob> {
    const path = join(options.folder, options.digest);
    try {
      const map = await readMap(`${path}.map`, options.size);
      const file = await open(path, map === null ? 'w+' : 'r+').catch(() => open(path, 'w+'));
      const { size } = await file.stat();
      const usable = map !== null && size === options.size;
      const partial = new PartialBlob(options, file, usable ? map : emptyMap(options.size), adopt);
      if (!usable) await file.truncate(options.size);
      const needed = options.size - partial.bytes;
      if (needed <= options.freeBytes) return partial;
      await partial.close();
      throw new SwarmError(
        'STORE_FULL',
        `blob ${options.digest} needs ${needed} more bytes, but ${options.freeBytes} are left; free some and try again`,
        { digest: options.digest, needed, free: options.freeBytes },
      );
    } catch (cause) {
      throw writeError(cause, path);
    }
  }

  /** Bytes that are here. */
  get bytes(): number {
    const lastIsHere = this.ranges > 0 && this.has(this.ranges - 1);
    const shortfall = lastIsHere ? this.ranges * BLOB_RANGE_BYTES - this.size : 0;
    return this.#done * BLOB_RANGE_BYTES - shortfall;
  }

  get complete(): boolean {
    return this.#done === this.ranges;
  }

  has(range: number): boolean {
    return ((this.#map[range >> 3] ?? 0) & (1 << (range & 7))) !== 0;
  }

  /** Where a range lies in the blob, in bytes. */
  extent(range: number): { offset: number; length: number } {
    const offset = range * BLOB_RANGE_BYTES;
    return { offset, length: Math.min(BLOB_RANGE_BYTES, this.size - offset) };
  }

  /**
   * Takes in one range. The buffer behind the bytes is given away, and comes back through `release`. False when the range is here already or is
   * being written: bytes of a second holder must never land on top of bytes that are in the hash.
   * @throws SwarmError STORE_FULL, WRITE_FAILED
   */
  async write(range: number, bytes: Uint8Array, release: Done): Promise<boolean> {
    if (this.has(range) || this.#writing.has(range)) {
      release(bytes);
      return false;
    }
    this.#writing.add(range);
    try {
      await writeAll(this.#file, bytes, this.extent(range).offset);
    } catch (cause) {
      release(bytes);
      throw writeError(cause, this.#path);
    } finally {
      this.#writing.delete(range);
    }
    this.#map[range >> 3] = (this.#map[range >> 3] ?? 0) | (1 << (range & 7));
    this.#done++;
    this.#unsaved++;
    this.#feed(range, bytes, release);
    // What is not in memory at its turn is better read back now than all at the end. `finish` reports failures.
    if (this.has(this.#hashed)) this.#catchUp().catch(() => {});
    if (this.#unsaved >= RANGES_PER_SAVE) await this.save();
    return true;
  }

  /** Writes down which ranges are here, for the next attempt. */
  async save(): Promise<void> {
    this.#unsaved = 0;
    try {
      const temporary = `${this.#path}.map.tmp`;
      await writeFile(temporary, encodeMap(this.size, this.#map));
      await rename(temporary, `${this.#path}.map`);
    } catch (cause) {
      throw writeError(cause, this.#path);
    }
  }

  /**
   * Checks the digest of the complete blob and moves it into the store.
   * @throws SwarmError BLOB_CORRUPT; then nothing is left of it, and `write` may begin again
   */
  async finish(): Promise<void> {
    while (this.#hashed < this.ranges) await this.#catchUp();
    const found = await this.#running().digest();
    this.#hash = undefined;
    if (found !== this.#digest) {
      await this.reset();
      throw new SwarmError('BLOB_CORRUPT', `what arrived for blob ${this.#digest} has digest ${found}`, {
        digest: this.#digest,
        found,
      });
    }
    try {
      await this.#file.sync();
      await this.#file.close();
      await this.#adopt(this.#path);
      await rm(`${this.#path}.map`, { force: true });
    } catch (cause) {
      throw writeError(cause, this.#path);
    }
  }

  /** Forgets every range. */
  async reset(): Promise<void> {
    this.#map = emptyMap(this.size);
    this.#done = 0;
    this.#hash?.close();
    this.#hash = undefined;
    this.#catchingUp = undefined;
    this.#hashed = 0;
    for (const { bytes, release } of this.#held.values()) release(bytes);
    this.#held.clear();
    this.resumed = false;
    await this.save();
  }

  /** Keeps what is here for a later attempt. */
  async close(): Promise<void> {
    this.#hash?.close();
    await this.save().finally(() => this.#file.close());
  }

  /** Hashes a range if it is its turn, and what waited for it; keeps it for its turn otherwise, if there is room. */
  #feed(range: number, bytes: Uint8Array, release: Done): void {
    if (range !== this.#hashed) {
      if (this.#held.size < HELD_RANGES) this.#held.set(range, { bytes, release });
      else release(bytes);
      return;
    }
    this.#running().update(bytes, release);
    this.#hashed++;
    const next = this.#held.get(this.#hashed);
    if (next === undefined) return;
    this.#held.delete(this.#hashed);
    this.#feed(this.#hashed, next.bytes, next.release);
  }

  /** Reads back and hashes what is here but was not in memory at its turn. */
  #catchUp(): Promise<void> {
    this.#catchingUp ??= this.#readBack(this.#running()).finally(() => {
      this.#catchingUp = undefined;
    });
    return this.#catchingUp;
  }

  async #readBack(hash: RunningHash): Promise<void> {
    let buffer = new Uint8Array(BLOB_RANGE_BYTES);
    while (this.has(this.#hashed) && !this.#held.has(this.#hashed)) {
      const range = this.#hashed;
      const { offset, length } = this.extent(range);
      const { bytesRead } = await this.#file.read(buffer, 0, length, offset);
      // Forgotten in the meantime.
      if (this.#hash !== hash) return;
      const given = await new Promise<Uint8Array>((resolve) =>
        this.#feed(range, buffer.subarray(0, bytesRead), resolve),
      );
      buffer = new Uint8Array(given.buffer as ArrayBuffer);
    }
  }

  #running(): RunningHash {
    this.#hash ??= startHash(this.size);
    return this.#hash;
  }
}

function rangesOf(size: number): number {
  return Math.ceil(size / BLOB_RANGE_BYTES);
}

function emptyMap(size: number): Uint8Array {
  return new Uint8Array(Math.ceil(rangesOf(size) / 8));
}

/** The size first, so that a map is never taken for one of another cut. */
function encodeMap(size: number, map: Uint8Array): Uint8Array {
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(BigInt(size));
  return Buffer.concat([head, map]);
}

async function readMap(path: string, size: number): Promise<Uint8Array | null> {
  const bytes = await readFile(path).catch(() => null);
  if (bytes === null || bytes.length !== 8 + emptyMap(size).length) return null;
  if (bytes.readBigUInt64LE() !== BigInt(size)) return null;
  return Uint8Array.from(bytes.subarray(8));
}

async function writeAll(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, offset + written);
    written += bytesWritten;
  }
}
