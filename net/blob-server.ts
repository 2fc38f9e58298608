import type { Stream } from '@libp2p/interface';
import { decodeCbor, encodeCbor } from '../protocol/cbor.ts';
import type { Clock } from '../protocol/clock.ts';
import { isSwarmError } from '../protocol/errors.ts';
import { BLOB_FRAME_BYTES, BLOB_IDLE_TIMEOUT_MS } from '../protocol/limits.ts';
import type { Logger } from '../protocol/logger.ts';
import { BLOB_PROTOCOL } from '../protocol/rpc.ts';
import {
  BLOB_HEADER_BYTES,
  BLOB_RANGE_TIMEOUT_MS,
  BLOB_STREAMS_PER_CONNECTION,
  type BlobAnswer,
  blobRequestSchema,
} from './blob-wire.ts';
import { withDeadline } from './deadline.ts';
import { FrameStream } from './frames.ts';
import type { BlobStore } from './network.ts';
import { closeStream, type Streams } from './streams.ts';

/** Ranges in memory for one peer, over all its connections. */
const RANGES_PER_PEER = 8;
/** Ranges in memory for all peers together: 64 MiB. */
const RANGES_AT_ONCE = 64;

export interface BlobServerDeps {
  streams: Streams;
  blobs: BlobStore;
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
  #ranges = 0;

  constructor(deps: BlobServerDeps) {
    this.#deps = deps;
  }

  async start(): Promise<void> {
    await this.#deps.streams.handle(
      BLOB_PROTOCOL,
      { maxInboundStreams: BLOB_STREAMS_PER_CONNECTION },
      (stream, peer) => this.#serve(stream, peer),
    );
  }

  /** Never throws: a caller that goes away or breaks the rules costs its stream. */
  async #serve(stream: Stream, peer: string): Promise<void> {
    const { clock, log } = this.#deps;
    const frames = new FrameStream(stream);
    try {
      for (;;) {
        const idle = { clock, ms: BLOB_IDLE_TIMEOUT_MS, what: 'the next blob request' };
        const request = await withDeadline(idle, (signal) => frames.readChunks(BLOB_HEADER_BYTES, signal));
        if (request === null) break;
        const range = { clock, ms: BLOB_RANGE_TIMEOUT_MS, what: 'sending a range' };
        await withDeadline(range, (signal) => this.#answer(frames, peer, Buffer.concat(request), signal));
      }
      await withDeadline({ clock, ms: BLOB_IDLE_TIMEOUT_MS, what: 'closing' }, (signal) =>
        closeStream(stream, { signal }),
      );
    } catch (error) {
      log.debug({ peer, error }, 'blob.stream_ended');
      stream.abort(error instanceof Error ? error : new Error(String(error)));
    }
  }

  async #answer(frames: FrameStream, peer: string, request: Uint8Array, signal: AbortSignal): Promise<void> {
    const { digest, offset, length } = decodeCbor(request, blobRequestSchema, BLOB_HEADER_BYTES);
    const mine = this.#rangesOf.get(peer) ?? 0;
    if (mine >= RANGES_PER_PEER || this.#ranges >= RANGES_AT_ONCE) {
      return this.#reply(frames, { status: 'busy', total: 0 }, [], signal);
    }
    this.#rangesOf.set(peer, mine + 1);
    this.#ranges++;
    try {
      const { blobs } = this.#deps;
      const total = await blobs.size(digest);
      if (total === null) return await this.#reply(frames, { status: 'missing', total: 0 }, [], signal);
      if (offset + length > total) return await this.#reply(frames, { status: 'range', total }, [], signal);
      const bytes = await blobs.read(digest, offset, length);
      await this.#reply(frames, { status: 'ok', total }, pieces(bytes), signal);
    } catch (error) {
      // Deleted between the two looks.
      if (!isSwarmError(error, 'BLOB_MISSING')) throw error;
      await this.#reply(frames, { status: 'missing', total: 0 }, [], signal);
    } finally {
      this.#ranges--;
      const left = (this.#rangesOf.get(peer) ?? 1) - 1;
      if (left === 0) this.#rangesOf.delete(peer);
      else this.#rangesOf.set(peer, left);
    }
  }

  async #reply(
    frames: FrameStream,
    answer: BlobAnswer,
    body: Iterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<void> {
    await frames.write([encodeCbor(answer)], signal);
    await frames.write(body, signal);
  }
}

function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += BLOB_FRAME_BYTES) yield bytes.subarray(at, at + BLOB_FRAME_BYTES);
}
