import { BLOB_FRAME_BYTES, BLOB_RANGE_BYTES } from '../../protocol/limits.ts';

/**
 * Maximum number of streams to one holder. Each stream requests one range at a time. Six streams keep the connection busy
 * while ranges that have arrived are stored.
 */
export const STREAMS_PER_HOLDER = 6;
/**
 * Minimum speed of a stream, in bytes per second, at which another stream to the same holder is opened. The streams of a
 * holder share its bandwidth, so a second stream at most halves the speed of the first one. At half of this speed, a range
 * of 1 MiB takes 20 s, which is far below its deadline. A slow holder therefore has few streams.
 */
const FAST_BYTES_PER_SECOND = 100 * 1024;
/** Number of bytes of the first request to a holder. At the lowest supported speed, they take 8 s. */
const FIRST_REQUEST_BYTES = 2 * BLOB_FRAME_BYTES;
/**
 * Time in seconds that a request may take at the speed of the previous one. A holder passes a whole answer to its connection
 * at once, and pings wait behind these bytes. A connection is closed if a ping waits for 15 s.
 */
const REQUEST_SECONDS = 5;

/** A holder from which ranges are requested. A slow holder has few streams and small requests. */
export class Holder {
  readonly peer: string;
  /** Number of streams. */
  open = 0;
  /** Maximum number of bytes of the next request. */
  requestBytes = FIRST_REQUEST_BYTES;

  constructor(peer: string) {
    this.peer = peer;
  }

  /** Sets the size of the next requests, after a stream has received an answer. The size is at least one frame. */
  answered(bytes: number, seconds: number): void {
    const frames = Math.floor((REQUEST_SECONDS * bytes) / seconds / BLOB_FRAME_BYTES);
    this.requestBytes = Math.min(BLOB_RANGE_BYTES, Math.max(1, frames) * BLOB_FRAME_BYTES);
  }

  /** Returns whether to open another stream, after a stream has received a number of bytes. */
  mayOpen(bytes: number, seconds: number): boolean {
    return this.open < STREAMS_PER_HOLDER && bytes >= seconds * FAST_BYTES_PER_SECOND;
  }
}
