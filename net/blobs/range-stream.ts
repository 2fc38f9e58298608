import type { Stream } from '@libp2p/interface';
import type { Clock } from '../../common/time/clock.ts';
import { withDeadline } from '../../common/time/deadline.ts';
import { withProgress } from '../../common/time/progress-deadline.ts';
import { decodeCbor, encodeCbor } from '../../protocol/cbor.ts';
import { BLOB_FRAME_BYTES, BLOB_IDLE_TIMEOUT_MS, BLOB_RANGE_BYTES } from '../../protocol/limits.ts';
import { BLOB_PROTOCOL } from '../../protocol/requests/rpc.ts';
import { storageError } from '../../storage/errors.ts';
import { netError } from '../errors.ts';
import { FrameStream } from '../frames.ts';
import { closeStream, type Streams } from '../libp2p/streams.ts';
import {
  BLOB_HEADER_BYTES,
  BLOB_RANGE_TIMEOUT_MS,
  BLOB_STREAMS_PER_CONNECTION,
  type BlobRequest,
  blobAnswerSchema,
} from './wire.ts';

/**
 * Maximum number of unread bytes: one range, and as many bytes again for the frame prefixes, because a holder may send
 * small frames.
 */
const UNREAD_BYTES = 2 * BLOB_RANGE_BYTES;

export interface FetchDeps {
  streams: Streams;
  clock: Clock;
}

/** Opens a stream to a holder, on which ranges are requested one after the other. */
export async function openRangeStream(
  peer: string,
  deps: FetchDeps,
  signal: AbortSignal,
): Promise<RangeStream> {
  const deadline = {
    clock: deps.clock,
    ms: BLOB_IDLE_TIMEOUT_MS,
    signal,
    what: `opening a stream to ${peer}`,
  };
  const stream = await withDeadline(deadline, (inner) =>
    deps.streams.open(peer, BLOB_PROTOCOL, {
      signal: inner,
      maxOutboundStreams: BLOB_STREAMS_PER_CONNECTION,
    }),
  );
  return new RangeStream(stream, deps.clock);
}

/** A stream over which ranges of blobs are fetched from one holder. */
export class RangeStream {
  readonly #stream: Stream;
  readonly #frames: FrameStream;
  readonly #clock: Clock;

  constructor(stream: Stream, clock: Clock) {
    this.#stream = stream;
    this.#frames = new FrameStream({ unreadBytes: UNREAD_BYTES }, { stream });
    this.#clock = clock;
  }

  /**
   * Requests one range and writes it to `target`.
   * @param size expected size of the whole blob in bytes
   * @param totalMs maximum time in milliseconds. @default BLOB_RANGE_TIMEOUT_MS
   * @param onArrival called after each frame with the number of its bytes
   * @throws SwarmError BLOB_MISSING, BLOB_SIZE, BLOB_BUSY, DEADLINE_EXCEEDED, FRAME_*, MESSAGE_*, STREAM_CLOSED
   */
  async range(
    request: BlobRequest,
    {
      size,
      target,
      onArrival,
      totalMs = BLOB_RANGE_TIMEOUT_MS,
    }: { size: number; target: Uint8Array; onArrival: (bytes: number) => void; totalMs?: number },
    signal: AbortSignal,
  ): Promise<void> {
    const limits = {
      clock: this.#clock,
      idleMs: BLOB_IDLE_TIMEOUT_MS,
      totalMs,
      signal,
      what: 'the transfer of a range',
    };
    await withProgress(limits, async (inner, progressed) => {
      await this.#frames.write([encodeCbor(request)], inner);
      const header = await this.#frames.read(BLOB_HEADER_BYTES, inner);
      progressed();
      const answer = decodeCbor(header, blobAnswerSchema, BLOB_HEADER_BYTES);
      if (answer.status === 'missing')
        throw storageError('BLOB_MISSING', 'the holder does not have the blob');
      if (answer.status === 'busy')
        throw netError('BLOB_BUSY', 'the holder is already serving as many ranges as it can');
      if (answer.total !== size || answer.status === 'range') {
        const { total } = answer;
        const message = `the holder has a blob of ${total} bytes instead of ${size}`;
        throw storageError('BLOB_SIZE', message, { total, size });
      }
      for (let at = 0; at < request.length; ) {
        const rest = target.subarray(at, Math.min(request.length, at + BLOB_FRAME_BYTES));
        const bytes = await this.#frames.readInto(rest, inner);
        progressed();
        onArrival(bytes);
        if (bytes === 0) throw netError('FRAME_TRUNCATED', 'the holder sent an empty frame');
        at += bytes;
      }
    });
  }

  /** Closes the stream, or resets it if closing takes too long. Never rejects. */
  async close(): Promise<void> {
    const deadline = { clock: this.#clock, ms: BLOB_IDLE_TIMEOUT_MS, what: 'closing' };
    await withDeadline(deadline, (signal) => closeStream(this.#stream, { signal })).catch(() => {});
  }

  abort(error: unknown): void {
    this.#stream.abort(error instanceof Error ? error : new Error(String(error)));
  }
}
