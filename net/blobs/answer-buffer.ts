import { encode } from 'it-length-prefixed';
import { BLOB_FRAME_BYTES } from '../../protocol/limits.ts';
import { BLOCK_BYTES } from '../frames.ts';

/** A part of an answer in wire format. */
export interface AnswerBlock {
  readonly bytes: Uint8Array;
  /** The parts of `bytes` that the caller has to fill with the next bytes of the range. */
  readonly targets: Uint8Array[];
}

/**
 * The memory of one answer in wire format: the header and the range, both in frames. The range is read from disk
 * directly into the frames, so that nothing is copied or allocated between reading and encrypting. The memory of a
 * block is allocated when the block is first needed. A buffer that does not keep its blocks (`keeps` is false) uses
 * memory only for the block that waits to be sent and for blocks that lower layers have not sent yet.
 *
 * Bytes passed to a stream may wait unencrypted in lower layers, which do not signal when they are done. So a buffer
 * belongs to one stream, and is reused only when the next request arrives on that stream. A peer sends its next request
 * only after it has received the whole answer.
 */
export class AnswerBuffer {
  /** Whether the buffer keeps its memory for the next answer. */
  readonly keeps: boolean;
  readonly #blocks: Buffer[] = [];

  constructor(options: { keeps: boolean }) {
    this.keeps = options.keeps;
  }

  /**
   * Yields blocks of BLOCK_BYTES with the header and the frames for a range of `length` bytes. Lays out each
   * block only when the caller takes it.
   */
  *lay(header: Uint8Array, length: number): Generator<AnswerBlock> {
    let index = 0;
    let block = this.#block(index);
    let targets: Uint8Array[] = [];
    let at = 0;
    for (const segment of segments(header, length)) {
      const size = typeof segment === 'number' ? segment : segment.length;
      for (let from = 0; from < size; ) {
        if (at === BLOCK_BYTES) {
          yield { bytes: block, targets };
          block = this.#block(++index);
          targets = [];
          at = 0;
        }
        const part = Math.min(size - from, BLOCK_BYTES - at);
        if (typeof segment === 'number') targets.push(block.subarray(at, at + part));
        else block.set(segment.subarray(from, from + part), at);
        at += part;
        from += part;
      }
    }
    yield { bytes: block.subarray(0, at), targets };
  }

  #block(index: number): Buffer {
    const block = this.#blocks[index] ?? Buffer.allocUnsafeSlow(BLOCK_BYTES);
    if (this.keeps) this.#blocks[index] = block;
    return block;
  }
}

/** Yields the parts of an answer in order. A number n stands for the next n bytes of the range. */
function* segments(header: Uint8Array, length: number): Generator<Uint8Array | number> {
  yield prefixOf(header.length);
  yield header;
  for (let left = length; left > 0; left -= BLOB_FRAME_BYTES) {
    const frame = Math.min(left, BLOB_FRAME_BYTES);
    yield frame === BLOB_FRAME_BYTES ? FULL_PREFIX : prefixOf(frame);
    yield frame;
  }
}

/** A frame of zeros for `prefixOf`. The encoder needs a frame to compute a prefix, but reads only its length. */
const FRAME = new Uint8Array(BLOB_FRAME_BYTES);

const FULL_PREFIX = prefixOf(BLOB_FRAME_BYTES);

/** Returns the prefix of a frame of `length` bytes. The encoder yields the prefix as its first piece. */
function prefixOf(length: number): Uint8Array {
  return encode([FRAME.subarray(0, length)])
    [Symbol.iterator]()
    .next().value!;
}
