import type { SwarmError } from '../common/errors.ts';
import { netError } from './errors.ts';

/**
 * Pieces up to this size are copied into a block. If single bytes were kept as they arrive, each byte would take over
 * 100 bytes of memory for its object, and would keep alive the buffer in which it arrived.
 */
const SMALL_PIECE_BYTES = 1024;
/** Size of a block that small pieces are copied into, in bytes. */
const BLOCK_BYTES = 4 * SMALL_PIECE_BYTES;
/**
 * Maximum size of a length prefix in bytes. The prefix is a varint with 7 bits per byte, so a frame has less
 * than 2^28 bytes.
 */
export const LENGTH_PREFIX_BYTES = 4;

/**
 * The unread bytes of a stream of length-prefixed frames. net/libp2p/muxer.ts describes the attack with small pieces
 * that this buffer defends against.
 */
export class FrameBuffer {
  #pieces: Uint8Array[] = [];
  /**
   * The block that small pieces are copied into. Small pieces that follow each other become one piece, which is a part
   * of the block.
   */
  #block: Uint8Array | undefined;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /**
   * Adds bytes that have arrived. Copies a small piece into a block, because many small pieces would take far
   * more memory than their bytes.
   */
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
   * Removes the next frame and returns its pieces. Returns null if the frame is incomplete.
   * @throws SwarmError FRAME_TOO_LARGE as soon as the length prefix has arrived
   */
  frame(maxBytes: number): Uint8Array[] | null {
    const header = this.#header(maxBytes);
    if (header === null || this.#length < header.prefix + header.length) return null;
    this.#take(header.prefix);
    return this.#take(header.length);
  }

  /** Returns the length of the next frame and the length of its prefix. Returns null if the prefix is incomplete. */
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
  const message = `a frame of at least ${bytes} bytes exceeds the limit of ${maxBytes}`;
  return netError('FRAME_TOO_LARGE', message, { bytes, maxBytes });
}
