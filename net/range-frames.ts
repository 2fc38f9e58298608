import { encode } from 'it-length-prefixed';
import { BLOB_FRAME_BYTES, BLOB_RANGE_BYTES } from '../protocol/limits.ts';

const FRAMES_PER_RANGE = BLOB_RANGE_BYTES / BLOB_FRAME_BYTES;
/** The prefix of a full frame; shorter frames have shorter ones. */
const PREFIX_BYTES = 3;

/**
 * A buffer in which one range lies framed as it goes over the wire. The disk fills the frames in place, and nothing is
 * copied or allocated between reading and encrypting.
 */
export class RangeFrames {
  readonly #buffer = Buffer.allocUnsafeSlow(BLOB_RANGE_BYTES + FRAMES_PER_RANGE * PREFIX_BYTES);

  /** Writes the prefixes for `length` bytes; `targets` are the places for the bytes between them. */
  lay(length: number): { bytes: Uint8Array; targets: Uint8Array[] } {
    const targets: Uint8Array[] = [];
    let at = 0;
    for (let left = length; left > 0; left -= BLOB_FRAME_BYTES) {
      const frame = Math.min(left, BLOB_FRAME_BYTES);
      // The encoder yields the prefix first, and of the frame it only looks at the length.
      const [prefix] = [...encode([this.#buffer.subarray(0, frame)])];
      this.#buffer.set(prefix!, at);
      at += prefix!.length;
      targets.push(this.#buffer.subarray(at, at + frame));
      at += frame;
    }
    return { bytes: this.#buffer.subarray(0, at), targets };
  }
}
