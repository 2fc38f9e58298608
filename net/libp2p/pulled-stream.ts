/**
 * Backpressure for gossip. Written for `@libp2p/gossipsub` 17.1.1, which reads an inbound stream through an unbounded
 * queue (`pipe` of `@libp2p/utils` 7). The stream sends window updates for bytes that no code has handled yet, so a
 * peer that sends faster than we judge its messages fills our memory. If gossipsub paused the stream, this file would
 * not be needed.
 */

import type { Stream } from '@libp2p/interface';
import type { Uint8ArrayList } from 'uint8arraylist';
import type { IncompleteRpc } from '../gossip-memory.ts';
import { noteUnhandled } from './unread-bytes.ts';

/**
 * Maximum number of bytes that have been taken off a gossip stream and still wait for the reader. Above this
 * number, the stream is paused, and its flow-control window fills. The limit is a few hundred heartbeats,
 * more than an honest peer sends at once.
 */
export const UNREAD_BYTES = 64 * 1024;
/**
 * Maximum flow-control window of a gossip stream. It is yamux's initial window, because a stream cannot have a smaller
 * one. A paused stream holds at most two windows and UNREAD_BYTES. At a round-trip time of 100 ms, this window allows
 * 2.5 MB/s, which is more than gossip needs.
 */
const WINDOW_BYTES = 256 * 1024;

/** The member of a yamux stream that its published type leaves out. */
interface YamuxStream {
  /** The window grows up to this size while the peer sends quickly. */
  maxStreamWindowSize?: number;
}

/**
 * The readable side of a stream that is paused while its reader is busy. It has no `addEventListener`, because `pipe`
 * would otherwise read the stream through its own queue.
 */
export class PulledStream {
  readonly #stream: Stream;
  readonly #memory: IncompleteRpc;

  constructor(deps: { stream: Stream; memory: IncompleteRpc }) {
    this.#stream = deps.stream;
    (deps.stream as YamuxStream).maxStreamWindowSize = WINDOW_BYTES;
    this.#memory = deps.memory;
  }

  get remoteWriteStatus(): Stream['remoteWriteStatus'] {
    return this.#stream.remoteWriteStatus;
  }

  close(): Promise<void> {
    return this.#stream.close();
  }

  abort(error: Error): void {
    this.#stream.abort(error);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array | Uint8ArrayList> {
    const stream = this.#stream;
    const unread: (Uint8Array | Uint8ArrayList)[] = [];
    let bytes = 0;
    let resuming = false;
    let ended = false;
    let failure: Error | undefined;
    let wake = (): void => {};
    const closed = new AbortController();
    const pauseIfFull = (): void => {
      if (bytes >= UNREAD_BYTES && stream.readStatus === 'readable') stream.pause();
    };
    const change = (by: number): void => {
      bytes += by;
      noteUnhandled(stream, bytes);
    };
    const onMessage = ({ data }: { data: Uint8Array | Uint8ArrayList }): void => {
      unread.push(data);
      change(data.byteLength);
      if (!resuming) pauseIfFull();
      wake();
    };
    const onEnd = (): void => {
      ended = true;
      wake();
    };
    const onClose = ({ error }: { error?: Error }): void => {
      failure = error;
      closed.abort(error);
      onEnd();
    };
    stream.addEventListener('message', onMessage);
    stream.addEventListener('remoteCloseWrite', onEnd);
    stream.addEventListener('close', onClose);
    try {
      for (;;) {
        const next = unread.shift();
        if (next !== undefined) {
          change(-next.byteLength);
          await this.#memory.add(next instanceof Uint8Array ? [next] : next, closed.signal);
          yield next;
          // The reader asks for more bytes, so it has handled all complete RPCs.
          this.#memory.handled();
        } else if (stream.readStatus === 'paused') {
          // `resume` calls onMessage with the bytes that arrived during the pause. onMessage must not pause the stream
          // inside this call. The end of `resume` would let yamux receive again, while the stream would still count as
          // paused. The peer could then send without a limit.
          resuming = true;
          stream.resume();
          resuming = false;
          pauseIfFull();
        } else if (ended) {
          if (failure !== undefined) throw failure;
          return;
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      this.#memory.release();
      stream.removeEventListener('message', onMessage);
      stream.removeEventListener('remoteCloseWrite', onEnd);
      stream.removeEventListener('close', onClose);
    }
  }
}
