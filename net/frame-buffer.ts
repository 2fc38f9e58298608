import type { SwarmError } from '../common/errors.ts';
import { netError } from './errors.ts';

/**
 * Pieces up to this size are copied together. Whoever sends bytes one by one would have each kept as an object, beside the
 * buffer that it arrived in: a hundred times and more what he sent.
 */
const SMALL_PIECE_BYTES = 1024;
/** Where small pieces go; a new one when it is full. */
const BLOCK_BYTES = 4 * SMALL_PIECE_BYTES;
/** A length below 2^28 as an unsigned varint; longer prefixes are nonsense and are not read on. */
export const LENGTH_PREFIX_BYTES = 4;

/** What has arrived on a stream of length-prefixed frames and nobody has read yet, in pieces as they came. */
export class FrameBuffer {
  #pieces: Uint8Array[] = [];
  /** Where small pieces are put together; the last piece lies in it if it is one of those. */
  #block: Uint8Array | undefined;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Keeps a piece, or a copy of it. */
  add(piece: Uint8Array): void {
    this.#length += piece.length;
    if (piece.length > SMALL_PIECE_BYTES) {
      this.#pieces.push(piece);
      return;
    }
    const last = this.#pieces.at(-1);
    const block = this.#block;
    const end = last === undefined ? 0 : last.byteOffset + last.length;
    if (last !== undefined && last.buffer === block?.buffer && end + piece.length <= block.length) {
      block.set(piece, end);
      this.#pieces[this.#pieces.length - 1] = block.subarray(last.byteOffset, end + piece.length);
      return;
    }
    this.#block = new Uint8Array(BLOCK_BYTES);
    this.#block.set(piece);
    this.#pieces.push(this.#block.subarray(0, piece.length));
  }

  clear(): void {
    this.#pieces = [];
    this.#length = 0;
  }

  /**
   * The next frame once it is complete, as the pieces it came in; null before.
   * @throws SwarmError FRAME_TOO_LARGE as soon as its length is known
   */
  frame(maxBytes: number): Uint8Array[] | null {
    const header = this.#header(maxBytes);
    if (header === null || this.#length < header.prefix + header.length) return null;
    this.#take(header.prefix);
    return this.#take(header.length);
  }

  /** Length of the next frame and of its prefix; null while the prefix is incomplete. */
  #header(maxBytes: number): { length: number; prefix: number } | null {
    let length = 0;
    let index = 0;
    for (const piece of this.#pieces) {
      for (const byte of piece) {
        length += (byte & 0x7f) * 2 ** (7 * index++);
        if (byte < 0x80) {
          if (length > maxBytes) throw tooLarge(length, maxBytes);
          return { length, prefix: index };
        }
        if (index === LENGTH_PREFIX_BYTES) throw tooLarge(length, maxBytes);
      }
    }
    return null;
  }

  #take(bytes: number): Uint8Array[] {
    const taken: Uint8Array[] = [];
    let missing = bytes;
    this.#length -= bytes;
    while (missing > 0) {
      const piece = this.#pieces[0]!;
      if (piece.length <= missing) {
        taken.push(piece);
        this.#pieces.shift();
      } else {
        taken.push(piece.subarray(0, missing));
        this.#pieces[0] = piece.subarray(missing);
      }
      missing -= taken.at(-1)!.length;
    }
    return taken;
  }
}

function tooLarge(bytes: number, maxBytes: number): SwarmError {
  return netError('FRAME_TOO_LARGE', `a frame of ${bytes} bytes or more exceeds ${maxBytes}`, {
    bytes,
    maxBytes,
  });
}
