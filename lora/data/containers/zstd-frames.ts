/**
 * Cuts a zstd stream after each of its frames (RFC 8878, section 3). Archives made by pzstd or `cat a.zst b.zst` have
 * several frames, but Node's decompressor silently drops the bytes that follow a frame in the same chunk. In Node 22.18
 * it also accepts a truncated archive. Once all supported versions of Node have neither fault, this file can be deleted.
 */

const MAGIC = 0xfd2fb528;
/** Magic number of skippable frames without its lowest four bits. */
const SKIPPABLE_MAGIC = 0x184d2a50;

/**
 * Yields the bytes of `chunks` in new pieces, none of which extends beyond the end of a frame.
 * @throws Error if the bytes end inside a frame
 */
export async function* cutFrames(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  const walker = new FrameWalker();
  for await (const chunk of chunks) {
    let from = 0;
    for (const end of walker.ends(chunk)) {
      yield chunk.subarray(from, end);
      from = end;
    }
    if (from < chunk.length) yield chunk.subarray(from);
  }
  // The error has the message and code of the error that Node's decompressors throw for a truncated archive.
  if (walker.inside) throw Object.assign(new Error('unexpected end of file'), { code: 'Z_BUF_ERROR' });
}

type State = 'magic' | 'descriptor' | 'block' | 'skippable' | 'lost';
const FIELD_BYTES: Record<State, number> = { magic: 4, descriptor: 1, block: 3, skippable: 4, lost: 0 };

class FrameWalker {
  #state: State = 'magic';
  /** Number of bytes of the current field that have been read so far. */
  #count = 0;
  /** The bytes of the current field that have been read so far, as a little-endian number. */
  #value = 0;
  /** Number of bytes to skip before the next field of the frame. */
  #skip = 0;
  #checksum = false;
  /** Whether the frame ends after the `#skip` bytes that are skipped next. */
  #ending = false;

  /**
   * Whether the position is inside a frame. false after bytes that are not a frame, because the position is unknown
   * there.
   */
  get inside(): boolean {
    return this.#state === 'magic' ? this.#count + this.#skip > 0 : this.#state !== 'lost';
  }

  /** Returns, for each frame that ends in this chunk, the position of the byte after the frame. */
  ends(chunk: Buffer): number[] {
    const found: number[] = [];
    for (let at = 0; at < chunk.length && this.#state !== 'lost'; ) {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, chunk.length - at);
        this.#skip -= step;
        at += step;
      } else {
        this.#value += chunk[at++]! * 2 ** (8 * this.#count++);
        if (this.#count < FIELD_BYTES[this.#state]) continue;
        this.#field(this.#value);
        this.#count = 0;
        this.#value = 0;
      }
      if (this.#skip > 0 || !this.#ending) continue;
      this.#ending = false;
      found.push(at);
    }
    return found;
  }

  #field(value: number): void {
    switch (this.#state) {
      case 'magic':
        // If this is not a frame, the decompressor will report the error.
        this.#state =
          value === MAGIC ? 'descriptor' : value - (value % 16) === SKIPPABLE_MAGIC ? 'skippable' : 'lost';
        break;
      case 'descriptor': {
        const single = (value >> 5) & 1;
        this.#checksum = ((value >> 2) & 1) === 1;
        const contentSize = [single, 2, 4, 8][value >> 6]!;
        this.#skip = 1 - single + [0, 1, 2, 4][value & 3]! + contentSize;
        this.#state = 'block';
        break;
      }
      case 'block': {
        const [last, type, size] = [value & 1, (value >> 1) & 3, value >> 3];
        // A run-length block is one byte, repeated `size` times.
        this.#skip = type === 1 ? 1 : size;
        if (last === 0) break;
        if (this.#checksum) this.#skip += 4;
        this.#end();
        break;
      }
      case 'skippable':
        this.#skip = value;
        this.#end();
        break;
    }
  }

  #end(): void {
    this.#ending = true;
    this.#state = 'magic';
  }
}
