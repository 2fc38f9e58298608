import type { Stream, StreamMessageEvent } from '@libp2p/interface';
import { encode } from 'it-length-prefixed';
import { pipe } from 'it-pipe';
import { raceSignal } from 'race-signal';
import { concat } from 'uint8arrays/concat';
import type { SwarmError } from '../common/errors.ts';
import { netError } from './errors.ts';
import { FrameBuffer } from './frame-buffer.ts';

/**
 * Number of bytes passed to the stream at once. With the muxer's header they fill exactly four noise messages of 65,519
 * bytes of plaintext. Larger blocks would delay pings and gossip on the same connection.
 */
export const BLOCK_BYTES = 4 * 65_519 - 12;
/**
 * Maximum number of bytes of frames that `write` passes to the stream at once. A receiver sees a block only after the
 * whole block has arrived. At the lowest supported speed, a block of this size takes 4 s, so the receiver sees that a
 * slow transfer makes progress.
 */
const WRITE_BYTES = 65_519 - 12;
/**
 * Number of bytes that have to arrive before a read reports progress. The number is half of a block, so that a peer
 * cannot keep a read alive with a few bytes.
 */
export const PROGRESS_BYTES = 32 * 1024;
/**
 * Number of bytes that a peer may still send after it broke a limit. These bytes are discarded. The stream is not reset
 * before that, because a reset would also drop the error that we send to the peer.
 */
const IGNORED_BYTES = 4 * 1024 * 1024;

export interface FrameStreamOptions {
  /**
   * Maximum number of unread bytes, including prefixes. The peer may send this many bytes before it has to wait for an
   * answer. If the peer sends more, reads fail with FRAME_FLOOD.
   */
  unreadBytes: number;
}

/**
 * Length-prefixed frames (unsigned varint) over a libp2p stream.
 *
 * `lpStream` of `@libp2p/utils` 7.4.1 does not fit, for four reasons. It has one size limit per stream, but rpc needs
 * one per frame. It resets the stream on a violation, so the peer never receives our error. It keeps unread pieces as
 * they arrive, so a megabyte that arrives in single bytes becomes a million objects. It has no typed error that tells a
 * truncated frame from a clean end.
 */
export class FrameStream {
  readonly #unreadBytes: number;
  readonly #stream: Stream;
  readonly #unread = new FrameBuffer();
  /** Error for the limit that the peer has exceeded. Once it is set, all bytes that arrive are discarded. */
  #refusal: unknown;
  /** Number of bytes discarded since `#refusal` was set. */
  #ignored = 0;
  #ended = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  constructor({ unreadBytes }: FrameStreamOptions, { stream }: { stream: Stream }) {
    this.#unreadBytes = unreadBytes;
    this.#stream = stream;
    stream.addEventListener('message', (event: StreamMessageEvent) => this.#receive(event.data));
    stream.addEventListener('remoteCloseWrite', () => this.#end());
    stream.addEventListener('close', (event) => this.#end(event.error));
    if (stream.status !== 'open' || stream.remoteWriteStatus !== 'writable') this.#ended = true;
  }

  /**
   * Reads the next frame and returns the chunks in which it arrived. Returns null if the peer has closed its side after
   * a whole frame.
   * @param progressed called each time that PROGRESS_BYTES more of the frame have arrived
   * @throws SwarmError FRAME_TOO_LARGE, FRAME_FLOOD, FRAME_TRUNCATED, STREAM_CLOSED, or the signal's reason
   */
  async readChunks(
    maxBytes: number,
    signal: AbortSignal,
    progressed: () => void = () => {},
  ): Promise<readonly Uint8Array[] | null> {
    let reported = this.#unread.length;
    for (;;) {
      const frame = this.#next(maxBytes);
      if (frame !== null) return frame;
      // The end may be signalled before the stream has delivered its last bytes, so wait until none are
      // buffered.
      if (this.#ended && this.#stream.readBufferLength === 0) {
        if (this.#error !== undefined) throw closed(this.#error);
        if (this.#unread.length === 0) return null;
        throw netError('FRAME_TRUNCATED', 'the peer closed the stream in the middle of a frame');
      }
      await this.#more(signal);
      if (this.#unread.length >= reported + PROGRESS_BYTES) {
        reported = this.#unread.length;
        progressed();
      }
    }
  }

  /** Reads the next frame. @throws the errors of {@link readChunks}, and FRAME_TRUNCATED if no further frame arrives */
  async read(maxBytes: number, signal: AbortSignal, progressed?: () => void): Promise<Uint8Array> {
    const chunks = await this.readChunks(maxBytes, signal, progressed);
    if (chunks === null) throw unfinished();
    return chunks.length === 1 ? chunks[0]! : concat([...chunks]);
  }

  /**
   * Reads the next frame into the start of `target`, and returns its length. Copying a large frame is cheaper than
   * keeping its chunks, because the garbage collector frees short-lived chunks at almost no cost.
   * @throws the errors of {@link read}, and FRAME_TOO_LARGE if the frame is longer than `target`
   */
  async readInto(target: Uint8Array, signal: AbortSignal): Promise<number> {
    const chunks = await this.readChunks(target.length, signal);
    if (chunks === null) throw unfinished();
    let at = 0;
    for (const chunk of chunks) {
      target.set(chunk, at);
      at += chunk.length;
    }
    return at;
  }

  /**
   * Sends each item of `frames` as one frame. Waits while the peer does not read.
   * @param progressed called when the stream has taken a block of at most 64 KiB
   */
  async write(
    frames: Iterable<Uint8Array>,
    signal: AbortSignal,
    progressed: () => void = () => {},
  ): Promise<void> {
    await pipe(
      frames,
      (source) => encode(source),
      blocks,
      async (source) => {
        for (const block of source) {
          await this.#send(block, signal);
          progressed();
        }
      },
    );
  }

  /**
   * Sends a block of at most BLOCK_BYTES that consists of frames or parts of frames. The caller must not modify the
   * block until the peer has received it, because lower layers may hold its bytes unencrypted after the stream has
   * accepted them.
   */
  async writeFramed(block: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#send(block, signal);
  }

  /** Drops the unread bytes and all bytes that arrive later. Further reads fail with `reason`. */
  discard(reason: unknown): void {
    this.#refuse(reason);
    this.#wake?.();
  }

  /** Closes our side of the stream. Reading is still possible. */
  async closeWrite(signal: AbortSignal): Promise<void> {
    await this.#stream.close({ signal });
  }

  async #send(block: Uint8Array, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    let flowing: boolean;
    try {
      flowing = this.#stream.send(block);
    } catch (cause) {
      throw closed(cause);
    }
    if (!flowing) await drained(this.#stream, signal);
  }

  #receive(data: StreamMessageEvent['data']): void {
    if (this.#refusal !== undefined) {
      this.#ignored += data.byteLength;
      if (this.#ignored > IGNORED_BYTES) this.#stream.abort(closed(this.#refusal));
      return;
    }
    if (this.#unread.length + data.byteLength > this.#unreadBytes) this.#refuse(flooded(this.#unreadBytes));
    else for (const piece of data instanceof Uint8Array ? [data] : data) this.#unread.add(piece);
    this.#wake?.();
  }

  #next(maxBytes: number): Uint8Array[] | null {
    if (this.#refusal !== undefined) throw this.#refusal;
    try {
      return this.#unread.frame(maxBytes);
    } catch (error) {
      this.#refuse(error);
      throw error;
    }
  }

  #refuse(error: unknown): void {
    this.#refusal = error;
    this.#unread.clear();
  }

  #end(error?: Error): void {
    this.#ended = true;
    this.#error ??= error;
    this.#wake?.();
  }

  /**
   * Waits until more bytes arrive or the stream ends.
   * @throws the signal's reason
   */
  #more(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    return raceSignal(promise, signal);
  }
}

/**
 * Joins length prefixes and frames into blocks of WRITE_BYTES. This halves the cost of a transfer of small frames,
 * because each separately sent piece would cost a muxer frame, an encryption and several writes to the socket.
 */
function* blocks(pieces: Iterable<Uint8Array>): Generator<Uint8Array> {
  let waiting: Uint8Array[] = [];
  let bytes = 0;
  for (const piece of pieces) {
    for (let at = 0; at < piece.length; ) {
      const part = piece.subarray(at, at + WRITE_BYTES - bytes);
      waiting.push(part);
      bytes += part.length;
      at += part.length;
      if (bytes < WRITE_BYTES) continue;
      yield concat(waiting, bytes);
      waiting = [];
      bytes = 0;
    }
  }
  if (bytes > 0) yield concat(waiting, bytes);
}

/**
 * Waits until the stream has passed on all its bytes, and accepts more. A stream that still holds bytes signals this
 * with the event `idle`. For such a stream the event `drain` is not enough: libp2p 3.3.11 sends `drain` to all streams
 * of a connection when the connection is no longer saturated, even to a stream that still holds bytes because its peer
 * does not read. The method `stream.onDrain()` of `@libp2p/utils` 7.4.1 cannot be used, because it waits at its first
 * call only.
 * @throws SwarmError STREAM_CLOSED, or the signal's reason
 */
async function drained(stream: Stream, signal: AbortSignal): Promise<void> {
  if (stream.writeStatus !== 'writable') throw closed(undefined);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const event = stream.writeBufferLength > 0 ? 'idle' : 'drain';
  const onDrain = (): void => resolve();
  const onClose = (): void => reject(closed(undefined));
  stream.addEventListener(event, onDrain);
  stream.addEventListener('close', onClose);
  try {
    await raceSignal(promise, signal);
  } finally {
    stream.removeEventListener(event, onDrain);
    stream.removeEventListener('close', onClose);
  }
}

function unfinished(): SwarmError {
  return netError('FRAME_TRUNCATED', 'the peer closed the stream instead of answering');
}

function closed(cause: unknown): SwarmError {
  const reason = cause instanceof Error ? cause.message : 'the peer closed it';
  return netError('STREAM_CLOSED', `the stream is closed: ${reason}`, {}, { cause });
}

function flooded(unreadBytes: number): SwarmError {
  return netError(
    'FRAME_FLOOD',
    `the peer sent more than ${unreadBytes} bytes without waiting for an answer`,
    { unreadBytes },
  );
}
