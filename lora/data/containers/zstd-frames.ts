/**
 * Cuts a zstd stream behind each of its frames (RFC 8878, section 3). Node's decompressor drops what follows a frame
 * in the same chunk, without an error; archives of several frames are what pzstd and `cat a.zst b.zst` make.
 */

const MAGIC = 0xfd2fb528;
/** Of skippable frames, without the last four bits. */
const SKIPPABLE_MAGIC = 0x184d2a50;

/** The same bytes, in pieces that never reach beyond the end of a frame. */
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
}

type State = 'magic' | 'descriptor' | 'block' | 'skippable' | 'lost';
const FIELD_BYTES: Record<State, number> = { magic: 4, descriptor: 1, block: 3, skippable: 4, lost: 0 };

class FrameWalker {
  #state: State = 'magic';
  /** Bytes of the field that is being read: how many, and their little-endian value so far. */
  #count = 0;
  #value = 0;
  /** Bytes to pass over before the next field. */
  #skip = 0;
  #checksum = false;
  /** The frame ends when `skip` is passed over. */
  #ending = false;

  /** Positions in the chunk behind the frames that end in it. */
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
        // What is no frame is left to the decompressor to complain about.
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
