import { encode } from 'it-length-prefixed';
import { BLOB_FRAME_BYTES, BLOB_RANGE_BYTES } from '../../protocol/limits.ts';
import { BLOB_HEADER_BYTES } from './wire.ts';

/** Length in bytes of the prefix of a full frame. No shorter frame has a longer prefix. */
const PREFIX_BYTES = 3;
const FRAMES = 1 + Math.ceil(BLOB_RANGE_BYTES / BLOB_FRAME_BYTES);

/**
 * The memory of one answer in wire format: the header and the range, both in frames. The range is read from disk
 * directly into the frames, so that nothing is copied or allocated between reading and encrypting.
 *
 * Bytes passed to a stream may wait unencrypted in lower layers, which do not signal when they are done. So a buffer
 * belongs to one stream, and is reused only when the next request arrives on that stream. A peer sends its next request
 * only after it has received the whole answer.
 */
export class AnswerBuffer {
  readonly #buffer = Buffer.allocUnsafeSlow(BLOB_HEADER_BYTES + BLOB_RANGE_BYTES + FRAMES * PREFIX_BYTES);

  /**
   * Writes the header, and the frame prefixes for a range of `length` bytes. `bytes` is the whole answer. `targets` are
   * the parts of `bytes` that the caller has to fill with the range.
   */
  lay(header: Uint8Array, length: number): { bytes: Uint8Array; targets: Uint8Array[] } {
    const targets: Uint8Array[] = [];
    let at = this.#put(prefixOf(header), 0);
    at = this.#put(header, at);
    for (let left = length; left > 0; left -= BLOB_FRAME_BYTES) {
      const frame = Math.min(left, BLOB_FRAME_BYTES);
      at = this.#put(prefixOf(this.#buffer.subarray(0, frame)), at);
      targets.push(this.#buffer.subarray(at, at + frame));
      at += frame;
    }
    return { bytes: this.#buffer.subarray(0, at), targets };
  }

  #put(bytes: Uint8Array, at: number): number {
    this.#buffer.set(bytes, at);
    return at + bytes.length;
  }
}

/** Returns the prefix of a frame. The encoder yields the prefix as its first piece. */
function prefixOf(frame: Uint8Array): Uint8Array {
  return encode([frame])[Symbol.iterator]().next().value!;
}
