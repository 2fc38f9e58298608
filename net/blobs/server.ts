import type { Stream } from '@libp2p/interface';
import type { Clock } from '../../common/clock.ts';
import { withDeadline } from '../../common/deadline.ts';
import type { Logger } from '../../common/logger.ts';
import { decodeCbor, encodeCbor } from '../../protocol/cbor.ts';
import { BLOB_IDLE_TIMEOUT_MS } from '../../protocol/limits.ts';
import { BLOB_PROTOCOL } from '../../protocol/rpc.ts';
import type { BlobReader, ResumableBlobs } from '../../storage/blob-store.ts';
import { OpenBlobs } from '../../storage/open-blobs.ts';
import { LENGTH_PREFIX_BYTES } from '../frame-buffer.ts';
import { FrameStream } from '../frames.ts';
import { closeStream, type Streams } from '../libp2p/streams.ts';
import { AnswerBuffer } from './answer-buffer.ts';
import {
  BLOB_HEADER_BYTES,
  BLOB_RANGE_TIMEOUT_MS,
  BLOB_STREAMS_PER_CONNECTION,
  type BlobAnswer,
  type BlobRequest,
  blobRequestSchema,
} from './wire.ts';

/** Ranges in memory for one peer, over all its connections. */
const RANGES_PER_PEER = 8;
/** Ranges in memory for all peers together: 64 MiB. */
const RANGES_AT_ONCE = 64;
/** Streams that keep their buffer between requests: as many again. Further ones pay for a new one each time. */
const BUFFERED_STREAMS = 64;
/** A request: the next one is sent when this one's answer is there. */
const UNREAD_BYTES = LENGTH_PREFIX_BYTES + BLOB_HEADER_BYTES;

export interface BlobServerDeps {
  streams: Streams;
  blobs: ResumableBlobs;
  clock: Clock;
  log: Logger;
}

/**
 * Serves ranges of the local store. A stream carries one request after the other; what is sent was asked for, at
 * most one range per stream, so that a peer that stops reading holds a bounded amount of memory for a bounded time.
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

  /** Never throws: a caller that goes away or breaks the rules costs its stream. */
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
      log.debug({ peer, error }, 'blob.stream_ended');
      stream.abort(error instanceof Error ? error : new Error(String(error)));
    } finally {
      this.#streams--;
    }
  }

  async #answer(peer: string, bytes: Uint8Array, way: Way): Promise<void> {
    const request = decodeCbor(bytes, blobRequestSchema, BLOB_HEADER_BYTES);
    const mine = this.#rangesOf.get(peer) ?? 0;
    if (mine >= RANGES_PER_PEER || this.#ranges >= RANGES_AT_ONCE)
      return tell(way, { status: 'busy', total: 0 });
    this.#rangesOf.set(peer, mine + 1);
    this.#ranges++;
    try {
      await this.#open.use(request.digest, (reader) => answerFrom(reader, request, way));
    } finally {
      this.#ranges--;
      const left = (this.#rangesOf.get(peer) ?? 1) - 1;
      if (left === 0) this.#rangesOf.delete(peer);
      else this.#rangesOf.set(peer, left);
    }
  }
}

/** How an answer goes out. */
interface Way {
  frames: FrameStream;
  /** A mebibyte: taken only when there is something to answer. */
  buffer: () => AnswerBuffer;
  signal: AbortSignal;
}

async function answerFrom(reader: BlobReader | null, request: BlobRequest, way: Way): Promise<void> {
  if (reader === null) return tell(way, { status: 'missing', total: 0 });
  const total = reader.size;
  const { offset, length } = request;
  if (offset + length > total) return tell(way, { status: 'range', total });
  const { bytes, targets } = way
    .buffer()
    .lay(encodeCbor({ status: 'ok', total } satisfies BlobAnswer), length);
  await reader.readInto(offset, targets);
  await way.frames.writeFramed(bytes, way.signal);
}

function tell({ frames, signal }: Way, answer: BlobAnswer): Promise<void> {
  return frames.write([encodeCbor(answer)], signal);
}
