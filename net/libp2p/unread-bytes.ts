/**
 * Limits the memory for bytes that have arrived on inbound streams and have not been read yet. Written for
 * `@libp2p/utils` 7.4.1 and `@libp2p/yamux` 8.0.3, whose streams hold up to 2 MiB each: yamux sends window updates as
 * soon as bytes arrive, even on a stream that is no longer read, such as a stream of identify after its answer. If
 * libp2p had a limit for all streams of an address, this file would not be needed.
 */

import type { Stream } from '@libp2p/interface';
import type { Claimant, FairPermits } from '../../common/limits/fair-permits.ts';
import { netError } from '../errors.ts';

/** Number of unread bytes that one permit allows. */
export const UNREAD_PERMIT_BYTES = 64 * 1024;
/**
 * Number of unread bytes that a stream may hold without a permit, because a request may arrive before its reader is
 * ready.
 */
const FREE_BYTES = 4 * 1024;

/** A stream with a method that its published type lacks. The method passes unread bytes to the reader, if any. */
interface BufferedStream extends Stream {
  dispatchReadBuffer(): void;
}

const limited = new WeakMap<Stream, UnreadBytes>();

/**
 * Makes a stream claim permits while it holds unread bytes. A stream that gets no permit, or loses one to another
 * address, is reset.
 * @param permits returns the permits for known peers or those for strangers, depending on what the peer is at the
 *   moment
 */
export function limitUnread(stream: Stream, claimant: Claimant, permits: () => FairPermits): void {
  limited.set(stream, new UnreadBytes(stream as BufferedStream, claimant, permits));
}

/** Records how many bytes the reader of a stream has taken from the stream and has not handled yet. */
export function noteUnhandled(stream: Stream, bytes: number): void {
  limited.get(stream)?.setUnhandled(bytes);
}

class UnreadBytes {
  readonly #stream: BufferedStream;
  readonly #claimant: Claimant;
  readonly #permits: () => FairPermits;
  readonly #releases: (() => void)[] = [];
  #unhandled = 0;

  constructor(stream: BufferedStream, claimant: Claimant, permits: () => FairPermits) {
    this.#stream = stream;
    this.#claimant = claimant;
    this.#permits = permits;
    const dispatch = stream.dispatchReadBuffer.bind(stream);
    stream.dispatchReadBuffer = () => {
      dispatch();
      this.#update();
    };
    stream.addEventListener('close', () => this.#release(0), { once: true });
  }

  setUnhandled(bytes: number): void {
    this.#unhandled = bytes;
    this.#update();
  }

  #update(): void {
    const bytes = this.#stream.readBufferLength + this.#unhandled;
    const needed = Math.ceil(Math.max(0, bytes - FREE_BYTES) / UNREAD_PERMIT_BYTES);
    this.#release(needed);
    while (this.#releases.length < needed && this.#stream.status === 'open') {
      const release = this.#permits().take(this.#claimant, () => this.#giveWay());
      if (release === null) this.#giveWay();
      else this.#releases.push(release);
    }
  }

  #release(kept: number): void {
    for (const release of this.#releases.splice(kept)) release();
  }

  #giveWay(): void {
    this.#release(0);
    this.#stream.abort(
      netError('STREAM_CLOSED', 'messages from other addresses needed the memory that held the unread bytes'),
    );
  }
}
