import type { Stream } from '@libp2p/interface';
import type { Clock } from '../../common/clock.ts';
import { withDeadline } from '../../common/deadline.ts';
import { isSwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { decodeCbor, encodeCbor } from '../../protocol/cbor.ts';
import { BLOB_IDLE_TIMEOUT_MS } from '../../protocol/limits.ts';
import { BLOB_PROTOCOL } from '../../protocol/rpc.ts';
import type { BlobReader, ResumableBlobs } from '../../storage/blob-store.ts';
import { OpenBlobs } from '../../storage/open-blobs.ts';
import { LENGTH_PREFIX_BYTES } from '../frame-buffer.ts';
import { FrameStream } from '../frames.ts';
import { closeStream, type Streams } from '../libp2p/streams.ts';
import type { NetworkObserver } from '../observer.ts';
import { AnswerBuffer } from './answer-buffer.ts';
import {
  BLOB_HEADER_BYTES,
  BLOB_RANGE_TIMEOUT_MS,
  BLOB_STREAMS_PER_CONNECTION,
  type BlobAnswer,
  type BlobRequest,
  blobRequestSchema,
} from './wire.ts';

/** Largest number of ranges in memory per peer, over all its connections. */
const RANGES_PER_PEER = 8;
/** Largest number of ranges in memory over all peers. They take 64 MiB. */
const RANGES_AT_ONCE = 64;
/**
 * Largest number of streams that keep their buffer of 1 MiB between requests. Further streams allocate a buffer for
 * each request.
 */
const BUFFERED_STREAMS = 64;
/**
 * Largest number of unread bytes: one request, because a peer sends the next one only after the whole answer has
 * arrived.
 */
const UNREAD_BYTES = LENGTH_PREFIX_BYTES + BLOB_HEADER_BYTES;

export interface BlobServerDeps {
  streams: Streams;
  blobs: ResumableBlobs;
  clock: Clock;
  log: Logger;
  observer: NetworkObserver;
}

/**
 * Serves ranges of the local store. A stream carries one request after the other, so at most one range at a time. A
 * peer that stops reading therefore ties up a limited amount of memory, and only until a deadline.
 */
export class BlobServer {
  readonly #deps: BlobServerDeps;
  readonly #rangesOf = new Map<string, number>();
  readonly #open: OpenBlobs;
  #ranges = 0;
  #streams = 0;

  constructor(deps: BlobServerDeps) {
    this.#deps = deps;
    this.#open = new OpenBlobs(deps);
  }

  async start(): Promise<void> {
    await this.#deps.streams.handle(
      BLOB_PROTOCOL,
      { maxInboundStreams: BLOB_STREAMS_PER_CONNECTION },
      (stream, peer) => this.#serve(stream, peer),
    );
  }

  stop(): void {
    this.#open.close();
  }

  /** Answers the requests of one stream. Never throws; an error ends the stream. */
  async #serve(stream: Stream, peer: string): Promise<void> {
    const { clock, log } = this.#deps;
    const frames = new FrameStream({ unreadBytes: UNREAD_BYTES }, { stream });
    const keeps = this.#streams < BUFFERED_STREAMS;
    let kept: AnswerBuffer | undefined;
    const buffer = (): AnswerBuffer => {
      const taken = kept ?? new AnswerBuffer();
      if (keeps) kept = taken;
      return taken;
    };
    this.#streams++;
    try {
      for (;;) {
        const idle = { clock, ms: BLOB_IDLE_TIMEOUT_MS, what: 'the next blob request' };
        const request = await withDeadline(idle, (signal) => frames.readChunks(BLOB_HEADER_BYTES, signal));
        if (request === null) break;
        const range = { clock, ms: BLOB_RANGE_TIMEOUT_MS, what: 'sending a range' };
        await withDeadline(range, (signal) =>
          this.#answer(peer, Buffer.concat(request), { frames, buffer, signal }),
        );
      }
      await withDeadline({ clock, ms: BLOB_IDLE_TIMEOUT_MS, what: 'closing' }, (signal) =>
        closeStream(stream, { signal }),
      );
    } catch (error) {
      log.debug({ peer, error }, 'blob-stream-failed');
      stream.abort(error instanceof Error ? error : new Error(String(error)));
    } finally {
      this.#streams--;
    }
  }

  async #answer(peer: string, bytes: Uint8Array, answer: AnswerStream): Promise<void> {
    const { clock, observer } = this.#deps;
    const start = clock.monotonic();
    let code = 'aborted';
    let sent = 0;
    try {
      const request = decodeCbor(bytes, blobRequestSchema, BLOB_HEADER_BYTES);
      const status = await this.#serveRange(peer, request, answer);
      code = STATUS_CODES[status];
      if (status === 'ok') sent = request.length;
    } catch (error) {
      if (isSwarmError(error)) code = error.code;
      throw error;
    } finally {
      const seconds = (clock.monotonic() - start) / 1000;
      observer.blobRange({ direction: 'outbound', code, bytes: sent, seconds });
    }
  }

  async #serveRange(peer: string, request: BlobRequest, answer: AnswerStream): Promise<BlobAnswer['status']> {
    const { observer } = this.#deps;
    const mine = this.#rangesOf.get(peer) ?? 0;
    if (mine >= RANGES_PER_PEER || this.#ranges >= RANGES_AT_ONCE) {
      return sendHeader(answer, { status: 'busy', total: 0 });
    }
    this.#rangesOf.set(peer, mine + 1);
    observer.blobQueue(++this.#ranges);
    try {
      return await this.#open.use(request.digest, (reader) => answerFrom(reader, request, answer));
    } finally {
      observer.blobQueue(--this.#ranges);
      const left = (this.#rangesOf.get(peer) ?? 1) - 1;
      if (left === 0) this.#rangesOf.delete(peer);
      else this.#rangesOf.set(peer, left);
    }
  }
}

/** The code under which the observer counts each kind of answer. */
const STATUS_CODES: Readonly<Record<BlobAnswer['status'], string>> = {
  ok: 'ok',
  missing: 'BLOB_MISSING',
  range: 'BLOB_SIZE',
  busy: 'BLOB_BUSY',
};

/** The stream of an answer, and its buffer. */
interface AnswerStream {
  frames: FrameStream;
  /** Returns the buffer of 1 MiB, allocated only for an answer with bytes. */
  buffer: () => AnswerBuffer;
  signal: AbortSignal;
}

async function answerFrom(
  reader: BlobReader | null,
  request: BlobRequest,
  answer: AnswerStream,
): Promise<BlobAnswer['status']> {
  if (reader === null) return sendHeader(answer, { status: 'missing', total: 0 });
  const total = reader.size;
  const { offset, length } = request;
  if (offset + length > total) return sendHeader(answer, { status: 'range', total });
  const { bytes, targets } = answer
    .buffer()
    .lay(encodeCbor({ status: 'ok', total } satisfies BlobAnswer), length);
  await reader.readInto(offset, targets);
  await answer.frames.writeFramed(bytes, answer.signal);
  return 'ok';
}

async function sendHeader(
  { frames, signal }: AnswerStream,
  answer: BlobAnswer,
): Promise<BlobAnswer['status']> {
  await frames.write([encodeCbor(answer)], signal);
  return answer.status;
}
