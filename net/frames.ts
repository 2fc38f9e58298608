import type { Stream, StreamMessageEvent } from '@libp2p/interface';
import { encode } from 'it-length-prefixed';
import { pipe } from 'it-pipe';
import { concat } from 'uint8arrays/concat';
import type { SwarmError } from '../common/errors.ts';
import { netError } from './errors.ts';
import { FrameBuffer } from './frame-buffer.ts';

/**
 * What is handed to the stream at once: few enough bytes that pings and gossip get their turn in between, and just as
 * many as fill four noise messages (65,519 bytes of plaintext each) together with the muxer's header.
 */
const BLOCK_BYTES = 4 * 65_519 - 12;
/** What is let go by once a sender has gone too far, so that he is still there to hear so. */
const IGNORED_BYTES = 4 * 1024 * 1024;

export interface FrameStreamOptions {
  /**
   * Most bytes, prefixes included, that the other side may have sent and nobody has read: what the protocol lets it say
   * before it has to wait for an answer. Of whoever sends more nothing further is read.
   */
  unreadBytes: number;
}

/**
 * Length-prefixed frames (unsigned varint) over a libp2p stream, with what the stream itself does not do: the length is
 * judged before the frame is waited for, what lies unread is bounded however it was cut, and a writer waits while the other
 * side is slow.
 */
export class FrameStream {
  readonly #unreadBytes: number;
  readonly #stream: Stream;
  readonly #unread = new FrameBuffer();
  /** Why nothing further is read, or kept. */
  #refusal: unknown;
  /** Bytes that have come since. */
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
   * The next frame as the chunks it arrived in, or null when the other side has properly finished.
   * @throws SwarmError FRAME_TOO_LARGE, FRAME_FLOOD, FRAME_TRUNCATED, STREAM_CLOSED, or the signal's reason
   */
  async readChunks(maxBytes: number, signal: AbortSignal): Promise<readonly Uint8Array[] | null> {
    for (;;) {
      const frame = this.#next(maxBytes);
      if (frame !== null) return frame;
      // The end can come while the stream still holds bytes for us.
      if (this.#ended && this.#stream.readBufferLength === 0) {
        if (this.#error !== undefined) throw closed(this.#error);
        if (this.#unread.length === 0) return null;
        throw netError('FRAME_TRUNCATED', 'the other side closed the stream in the middle of a frame');
      }
      await this.#more(signal);
    }
  }

  /** The next frame. @throws as {@link readChunks}, and FRAME_TRUNCATED when there is none */
  async read(maxBytes: number, signal: AbortSignal): Promise<Uint8Array> {
    const chunks = await this.readChunks(maxBytes, signal);
    if (chunks === null) throw unfinished();
    return chunks.length === 1 ? chunks[0]! : concat([...chunks]);
  }

  /**
   * The next frame, copied to the beginning of `target`; returns its length. Large frames are better copied than kept:
   * the chunks they came in die young, where the garbage collector clears them at no cost.
   * @throws as {@link read}; FRAME_TOO_LARGE when it is longer than `target`
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

  /** Sends each piece as one frame, no faster than the other side takes them. */
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
   * Sends bytes that are frames already. They must not be written to until the other side has them: what the stream
   * has taken may wait, not yet encrypted, in layers below it.
   */
  async writeFramed(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
      await this.#send(bytes.subarray(at, at + BLOCK_BYTES), signal);
    }
  }

  /** Tells the other side that nothing more follows; reading goes on. */
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

  /** Waits for bytes or the end. */
  #more(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const onAbort = (): void => {
        this.#wake = undefined;
        reject(signal.reason);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#wake = () => {
        this.#wake = undefined;
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
    });
  }
}

/**
 * Joins pieces into blocks. Every piece that is sent by itself costs a muxer frame, an encryption, and four writes to
 * the socket: joining prefixes and frames first makes a transfer about half as dear.
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

/** Resolves when the stream takes bytes again. (The stream's own `onDrain` waits only the first time.) */
function drained(stream: Stream, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      stream.removeEventListener('drain', onDrain);
      stream.removeEventListener('close', onClose);
      signal.removeEventListener('abort', onAbort);
    };
    const onDrain = (): void => {
      settle();
      resolve();
    };
    const onClose = (): void => {
      settle();
      reject(closed(undefined));
    };
    const onAbort = (): void => {
      settle();
      reject(signal.reason);
    };
    if (signal.aborted) return reject(signal.reason);
    if (stream.writeStatus !== 'writable') return reject(closed(undefined));
    stream.addEventListener('drain', onDrain);
    stream.addEventListener('close', onClose);
    signal.addEventListener('abort', onAbort);
  });
}

function unfinished(): SwarmError {
  return netError('FRAME_TRUNCATED', 'the other side closed the stream instead of answering');
}

function closed(cause: unknown): SwarmError {
  const reason = cause instanceof Error ? cause.message : 'the other side closed it';
  return netError('STREAM_CLOSED', `the stream is closed: ${reason}`, {}, { cause });
}

function flooded(unreadBytes: number): SwarmError {
  return netError(
    'FRAME_FLOOD',
    `the other side sent more than the ${unreadBytes} bytes that it may before it is answered`,
    { unreadBytes },
  );
}
