import type { Stream } from '@libp2p/interface';
import { isSwarmError } from '../../common/errors.ts';
import type { Claimant, FairPermits } from '../../common/limits/fair-permits.ts';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import { withDeadline } from '../../common/time/deadline.ts';
import { withProgress } from '../../common/time/progress-deadline.ts';
import type { BlobProof } from '../../protocol/access/job-key.ts';
import { decodeCbor } from '../../protocol/cbor.ts';
import { BLOB_IDLE_TIMEOUT_MS } from '../../protocol/limits.ts';
import { BLOB_PROTOCOL } from '../../protocol/requests/rpc.ts';
import type { ResumableBlobs } from '../../storage/blob-store.ts';
import { OpenBlobs } from '../../storage/open-blobs.ts';
import type { RateLimit } from '../bandwidth.ts';
import type { BandwidthClaimant, Rank } from '../byte-queue.ts';
import { netError } from '../errors.ts';
import { LENGTH_PREFIX_BYTES } from '../frame-buffer.ts';
import { FrameStream } from '../frames.ts';
import { closeStream, type Streams } from '../libp2p/streams.ts';
import type { NetworkMeter } from '../meter.ts';
import type { MayFetch, OtherBlobs } from '../network.ts';
import { AnswerBuffer } from './answer-buffer.ts';
import { type AnswerStream, answerFrom, sendHeader } from './send-range.ts';
import {
  BLOB_HEADER_BYTES,
  BLOB_RANGE_TIMEOUT_MS,
  BLOB_STREAMS_PER_CONNECTION,
  type BlobAnswer,
  type BlobRequest,
  blobRequestSchema,
} from './wire.ts';

/**
 * Maximum time that a peer may need to take one block of a range. At the lowest speed of a transfer, 16 KiB/s, a block
 * of 256 KiB takes 16 s.
 */
const RANGE_STALL_MS = 20_000;
/**
 * A request is refused as `busy` if the bytes of its range would wait for upload bandwidth longer than this
 * time in milliseconds. The ranges in progress therefore end within BLOB_RANGE_TIMEOUT_MS.
 */
const MAX_WAIT_MS = 2_000;
/**
 * Maximum number of unread bytes. It is the size of one request, because a peer sends its next request only
 * after the whole answer has arrived.
 */
const UNREAD_BYTES = LENGTH_PREFIX_BYTES + BLOB_HEADER_BYTES;

export interface BlobServerDeps {
  streams: Streams;
  blobs: ResumableBlobs;
  /** Blobs of another store, which are served too. @default none */
  other?: OtherBlobs | undefined;
  clock: Clock;
  log: Logger;
  meter: NetworkMeter;
  /**
   * Permits for ranges that are being sent. Each such range takes half a MiB of memory, in addition to the kept
   * buffers.
   */
  ranges: FairPermits;
  /**
   * Permits for the buffers of 1.25 MiB that streams keep between requests, from their second request on. A stream
   * without a permit allocates memory for each request.
   */
  buffers: FairPermits;
  /** Limit on the rate at which bytes are sent. @default no limit */
  upload?: RateLimit;
  /** Returns the rank in which a peer waits for bandwidth. @default every peer is a stranger */
  rankOf?: (peer: string) => Rank;
}

/**
 * Serves ranges of the local store. A stream carries one request after the other, and therefore at most one range at a
 * time. So a peer that stops reading ties up a limited amount of memory. This memory is freed at a deadline, or earlier
 * if other peers claim their shares.
 */
export class BlobServer {
  mayFetch: MayFetch = () => false;
  readonly #deps: BlobServerDeps;
  readonly #open: OpenBlobs;
  readonly #openOther: OpenBlobs | null;

  constructor(deps: BlobServerDeps) {
    this.#deps = deps;
    this.#open = new OpenBlobs(deps);
    const { other, clock } = deps;
    this.#openOther = other === undefined ? null : new OpenBlobs({ blobs: other, clock });
  }

  async start(): Promise<void> {
    await this.#deps.streams.handle(
      BLOB_PROTOCOL,
      { maxInboundStreams: BLOB_STREAMS_PER_CONNECTION },
      (stream, from) => this.#serve(stream, from),
    );
  }

  stop(): void {
    this.#open.close();
    this.#openOther?.close();
  }

  /** Answers the requests of one stream. Never throws; an error ends the stream. */
  async #serve(stream: Stream, from: Claimant): Promise<void> {
    const { clock, log, buffers } = this.#deps;
    const frames = new FrameStream({ unreadBytes: UNREAD_BYTES }, { stream });
    let kept: AnswerBuffer | undefined;
    let release = (): void => {};
    let isFirst = true;
    const buffer = (): AnswerBuffer => {
      if (kept !== undefined) return kept;
      // The first answer gets a buffer without a permit, which is not kept for later answers. A peer that never reads
      // its answer therefore holds no permit.
      const permit = isFirst
        ? null
        : buffers.take(from, () => {
            kept = undefined;
          });
      if (permit === null) return new AnswerBuffer({ keeps: false });
      kept = new AnswerBuffer({ keeps: true });
      release = permit;
      return kept;
    };
    try {
      for (;;) {
        const idle = { clock, ms: BLOB_IDLE_TIMEOUT_MS, what: 'the next blob request' };
        const request = await withDeadline(idle, (signal) => frames.readChunks(BLOB_HEADER_BYTES, signal));
        if (request === null) break;
        await this.#answer(from, Buffer.concat(request), { frames, buffer });
        isFirst = false;
      }
      await withDeadline({ clock, ms: BLOB_IDLE_TIMEOUT_MS, what: 'closing' }, (signal) =>
        closeStream(stream, { signal }),
      );
    } catch (error) {
      log.debug({ peer: from.peer, error }, 'blob-stream-failed');
      stream.abort(error instanceof Error ? error : new Error(String(error)));
    } finally {
      release();
    }
  }

  async #answer(from: Claimant, bytes: Uint8Array, answer: AnswerStream): Promise<void> {
    const { clock, meter } = this.#deps;
    const start = clock.monotonic();
    let code = 'aborted';
    let sent = 0;
    try {
      const request = decodeCbor(bytes, blobRequestSchema, BLOB_HEADER_BYTES);
      const status = await this.#serveIfAllowed(from, request, answer);
      code = STATUS_CODES[status];
      if (status === 'ok') sent = request.length;
    } catch (error) {
      if (isSwarmError(error)) code = error.code;
      if (code === 'DEADLINE_EXCEEDED') meter.refusal({ queue: 'ranges', reason: 'stalled' });
      throw error;
    } finally {
      const seconds = (clock.monotonic() - start) / 1000;
      meter.blobRange({ direction: 'outbound', code, bytes: sent, seconds });
    }
  }

  /**
   * Serves a range if the peer may fetch the blob. Checks this before the range takes a place in the queue, so that
   * strangers cannot hold places. A refused peer gets the same answer as for a blob that does not exist.
   */
  async #serveIfAllowed(
    from: Claimant,
    request: BlobRequest,
    answer: AnswerStream,
  ): Promise<BlobAnswer['status']> {
    const { digest, proof } = request;
    const open = this.#storeFor(from.peer, digest, proof ?? null);
    if (open !== null) return this.#serveRange(from, request, { ...answer, open });
    const limits = { clock: this.#deps.clock, ms: BLOB_IDLE_TIMEOUT_MS, what: 'refusing a range' };
    return withDeadline(limits, (signal) => sendHeader(answer, { status: 'missing', total: 0 }, signal));
  }

  /** Returns the store from which a peer may fetch a blob; null if the peer may not fetch it. */
  #storeFor(peer: string, digest: string, proof: BlobProof | null): OpenBlobs | null {
    if (this.mayFetch(peer, digest, proof)) return this.#open;
    return this.#deps.other?.mayFetch(peer, digest, proof) ? this.#openOther : null;
  }

  async #serveRange(
    from: Claimant,
    request: BlobRequest,
    { open, ...answer }: AnswerStream & { open: OpenBlobs },
  ): Promise<BlobAnswer['status']> {
    const { clock, meter, ranges, upload, rankOf = () => 'stranger' } = this.#deps;
    const claimant = { ...from, rank: rankOf(from.peer) };
    const withdrawn = new AbortController();
    const release = ranges.take(from, () => withdrawn.abort(busy()));
    meter.blobQueue(ranges.size);
    const limits = {
      clock,
      idleMs: RANGE_STALL_MS,
      totalMs: BLOB_RANGE_TIMEOUT_MS,
      signal: withdrawn.signal,
      what: 'sending a range',
    };
    try {
      return await withProgress(limits, (signal, progressed) =>
        release === null || isFull(upload, claimant)
          ? sendHeader(answer, { status: 'busy', total: 0 }, signal)
          : open.use(request.digest, (reader) =>
              answerFrom(reader, request, { ...answer, signal, progressed, upload, from: claimant }),
            ),
      );
    } finally {
      release?.();
      meter.blobQueue(ranges.size);
    }
  }
}

/** The code under which the meter counts each kind of answer. */
const STATUS_CODES: Readonly<Record<BlobAnswer['status'], string>> = {
  ok: 'ok',
  missing: 'BLOB_MISSING',
  range: 'BLOB_SIZE',
  busy: 'BLOB_BUSY',
};

function busy(): Error {
  return netError(
    'BLOB_BUSY',
    'the transfer of this range was stopped, because another address or peer needs its place in the queue',
  );
}

/**
 * Returns whether the first bytes of a further range would have to wait too long. Addresses take turns, so a peer is
 * not refused because of the ranges of another address. A stranger also has to wait for bytes that the host has already
 * sent faster than the limit allows. For other peers these bytes do not count, so strangers cannot make the host refuse
 * its coordinator.
 */
function isFull(upload: RateLimit | undefined, from: BandwidthClaimant): boolean {
  if (upload === undefined) return false;
  return (from.rank === 'stranger' ? upload.waitMs(from) : upload.queuedMs(from)) > MAX_WAIT_MS;
}
