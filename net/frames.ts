import type { Stream, StreamMessageEvent } from '@libp2p/interface';
import { encode } from 'it-length-prefixed';
import { pipe } from 'it-pipe';
import { raceSignal } from 'race-signal';
import { concat } from 'uint8arrays/concat';
import type { SwarmError } from '../common/errors.ts';
import { netError } from './errors.ts';
import { FrameBuffer } from './frame-buffer.ts';

/**
 * Bytes passed to the stream at once: exactly four noise messages (65,519 bytes of plaintext each) with the muxer's header.
 * More would delay pings and gossip on the same connection.
 */
const BLOCK_BYTES = 4 * 65_519 - 12;
/** Bytes discarded after a violation, so that the peer still receives our error. More reset the stream. */
const IGNORED_BYTES = 4 * 1024 * 1024;

export interface FrameStreamOptions {
  /**
   * Greatest number of unread bytes, prefixes included: what the protocol lets the peer send before it has to wait for an
   * answer. After more, nothing further is read.
   */
  unreadBytes: number;
}

/**
 * Length-prefixed frames (unsigned varint) over a libp2p stream.
 *
 * Not `lpStream` of `@libp2p/utils` 7.4.1: it has one size limit per stream where rpc needs one per frame, and it resets the
 * stream on a violation, so that the peer never receives our error. It also keeps unread pieces as they arrive, a megabyte
 * in single bytes as a million objects, and does not distinguish a clean end from a truncated frame by a typed error.
 */
export class FrameStream {
  readonly #unreadBytes: number;
  readonly #stream: Stream;
  readonly #unread = new FrameBuffer();
  /** The violation after which bytes are discarded. */
  #refusal: unknown;
  /** Bytes discarded since the violation. */
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
   * Reads the next frame as the chunks in which it arrived; null if the peer has closed its side after a whole frame.
   * @throws SwarmError FRAME_TOO_LARGE, FRAME_FLOOD, FRAME_TRUNCATED, STREAM_CLOSED, or the signal's reason
   */
  async readChunks(maxBytes: number, signal: AbortSignal): Promise<readonly Uint8Array[] | null> {
    for (;;) {
      const frame = this.#next(maxBytes);
      if (frame !== null) return frame;
      // The end may be signalled before the stream has delivered its last bytes.
      if (this.#ended && this.#stream.readBufferLength === 0) {
        if (this.#error !== undefined) throw closed(this.#error);
        if (this.#unread.length === 0) return null;
        throw netError('FRAME_TRUNCATED', 'the peer closed the stream in the middle of a frame');
      }
      await this.#more(signal);
    }
  }

  /** Reads the next frame. @throws as {@link readChunks}, and FRAME_TRUNCATED if there is none */
  async read(maxBytes: number, signal: AbortSignal): Promise<Uint8Array> {
    const chunks = await this.readChunks(maxBytes, signal);
    if (chunks === null) throw unfinished();
    return chunks.length === 1 ? chunks[0]! : concat([...chunks]);
  }

  /**
   * Reads the next frame into the start of `target`; returns its length. Copying large frames is cheaper than keeping their
   * chunks, because the garbage collector frees short-lived chunks at almost no cost.
   * @throws as {@link read}, and FRAME_TOO_LARGE if the frame is longer than `target`
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

  /** Sends each piece as one frame, and waits while the peer does not read. */
  async write(frames: Iterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    await pipe(
      frames,
      (source) => encode(source),
      blocks,
      async (source) => {
        for (const block of source) await this.#send(block, signal);
      },
    );
  }

  /**
   * Sends bytes that already are frames. They must not be modified until the peer has received them: lower layers may still
   * hold them, unencrypted, after the stream has accepted them.
   */
  async writeFramed(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
      await this.#send(bytes.subarray(at, at + BLOCK_BYTES), signal);
    }
  }

  /** Closes our side of the stream; reading is still possible. */
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

  /** Waits for bytes or the end. @throws the signal's reason */
  #more(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    return raceSignal(promise, signal);
  }
}

/**
 * Joins pieces into blocks. Each piece sent separately costs a muxer frame, an encryption and four writes to the socket;
 * joining prefixes and frames first halves the cost of a transfer.
 */
function* blocks(pieces: Iterable<Uint8Array>): Generator<Uint8Array> {
  let waiting: Uint8Array[] = [];
  let bytes = 0;
  for (const piece of pieces) {
    if (bytes > 0 && bytes + piece.length > BLOCK_BYTES) {
      yield concat(waiting, bytes);
      waiting = [];
      bytes = 0;
    }
    waiting.push(piece);
    bytes += piece.length;
  }
  if (bytes > 0) yield concat(waiting, bytes);
}

/**
 * Waits until the stream accepts bytes again. Not `stream.onDrain()`, which in `@libp2p/utils` 7.4.1 waits only the first
 * time: its promise is never renewed.
 * @throws SwarmError STREAM_CLOSED, or the signal's reason
 */
async function drained(stream: Stream, signal: AbortSignal): Promise<void> {
  if (stream.writeStatus !== 'writable') throw closed(undefined);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onDrain = (): void => resolve();
  const onClose = (): void => reject(closed(undefined));
  stream.addEventListener('drain', onDrain);
  stream.addEventListener('close', onClose);
  try {
    await raceSignal(promise, signal);
  } finally {
    stream.removeEventListener('drain', onDrain);
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
