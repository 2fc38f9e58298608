import { encode } from 'it-length-prefixed';
import { BLOB_FRAME_BYTES, BLOB_RANGE_BYTES } from '../../protocol/limits.ts';
import { BLOB_HEADER_BYTES } from './wire.ts';

/** The prefix of a full frame; shorter frames have shorter ones. */
const PREFIX_BYTES = 3;
const FRAMES = 1 + Math.ceil(BLOB_RANGE_BYTES / BLOB_FRAME_BYTES);

/**
 * Where an answer lies as it goes over the wire: header and range in frames. The disk fills the frames in place, and
 * nothing is copied or allocated between reading and encrypting.
 *
 * What was handed to a stream may wait, not yet encrypted, in layers below it that do not tell when they are done. So
 * a buffer belongs to one stream, and is laid anew only at the next request there: by then the asker has it all.
 */
export class AnswerBuffer {
  readonly #buffer = Buffer.allocUnsafeSlow(BLOB_HEADER_BYTES + BLOB_RANGE_BYTES + FRAMES * PREFIX_BYTES);

  /** Writes the header and the prefixes of `length` bytes; `targets` are the places for the bytes themselves. */
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

/** The encoder gives the prefix first, and only looks at the length of what follows. */
function prefixOf(frame: Uint8Array): Uint8Array {
  return encode([frame])[Symbol.iterator]().next().value!;
}
