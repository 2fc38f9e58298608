import { encode } from 'it-length-prefixed';
import { BLOB_FRAME_BYTES } from '../protocol/limits.ts';

/** The prefix of a full frame; shorter frames have shorter ones. */
const PREFIX_BYTES = 3;

/**
 * A buffer for `length` bytes framed as they go over the wire, prefixes filled in; `targets` are the places between
 * them. The disk fills the frames in place, so that nothing is copied between reading and encrypting.
 */
export function layFrames(length: number): { bytes: Uint8Array; targets: Uint8Array[] } {
  const buffer = Buffer.allocUnsafeSlow(length + Math.ceil(length / BLOB_FRAME_BYTES) * PREFIX_BYTES);
  const targets: Uint8Array[] = [];
  let at = 0;
  for (let left = length; left > 0; left -= BLOB_FRAME_BYTES) {
    const frame = Math.min(left, BLOB_FRAME_BYTES);
    // The encoder gives the prefix first, and of the frame it only looks at the length.
    const [prefix] = [...encode([buffer.subarray(0, frame)])];
    buffer.set(prefix!, at);
    at += prefix!.length;
    targets.push(buffer.subarray(at, at + frame));
    at += frame;
  }
  return { bytes: buffer.subarray(0, at), targets };
}
