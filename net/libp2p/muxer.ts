/**
 * Yamux hardened against memory exhaustion. Written for `@libp2p/yamux` 8.0.3, whose decoder buffers a whole frame before
 * its size is checked against the window, up to the 4 GiB that a header can announce. A check of the announced length in
 * `Decoder.readFrame` would replace the first half of this file, a limit on small frames the second half.
 *
 * `net/frame-buffer.ts` defends against small pieces too, but the two cannot replace each other: this file protects the
 * streams whose readers are libp2p's (gossip, identify), with a limit that an attacker can stay just above; the frame buffer
 * makes unread pieces of our own streams cost no more memory than their bytes.
 */

import type { StreamMuxer, StreamMuxerFactory } from '@libp2p/interface';
import { type YamuxMuxerInit, yamux } from '@libp2p/yamux';
import { netError } from '../errors.ts';

/** The members of a yamux muxer that its published type leaves out. */
interface YamuxConnection {
  /** Holds the bytes of an incomplete frame. */
  readonly decoder: { readonly buffer: { readonly byteLength: number } };
  onData(bytes: unknown): void;
  handleFrame(frame: { readonly data?: { readonly byteLength: number } }): void;
}

const HEADER_BYTES = 12;
/** Least mean size of data frames in bytes. Honest frames are larger: pings have 32 bytes, protocol names about 20. */
const MEAN_FRAME_BYTES = 16;
/** Smaller frames that may arrive in a row. Each unread one is an object of about 250 bytes. */
const SMALL_FRAMES = 4096;
const CREDIT_BYTES = SMALL_FRAMES * MEAN_FRAME_BYTES;

/**
 * Creates a yamux muxer that closes a connection on which a frame exceeds the largest window, or data frames are too small
 * on average: a frame of a byte or two costs over 100 × its bytes. Nothing changes on the wire.
 * @param windowBytes largest flow-control window of a stream, so the largest valid data frame, in bytes
 */
export function muxer(windowBytes: number, init: YamuxMuxerInit): () => StreamMuxerFactory {
  return () => {
    const library = yamux(init)() as StreamMuxerFactory;
    const create = library.createStreamMuxer.bind(library);
    library.createStreamMuxer = (connection) => bounded(create(connection), windowBytes);
    return library;
  };
}

function bounded(muxer: StreamMuxer, windowBytes: number): StreamMuxer {
  const yamuxed = muxer as unknown as YamuxConnection;
  const onData = yamuxed.onData.bind(muxer);
  const handleFrame = yamuxed.handleFrame.bind(muxer);
  let credit = CREDIT_BYTES;
  // The library closes the connection if one of these methods throws.
  yamuxed.onData = (bytes) => {
    onData(bytes);
    const { byteLength } = yamuxed.decoder.buffer;
    if (byteLength > HEADER_BYTES + windowBytes) {
      throw netError('MUXER_FRAME', `a frame is longer than ${byteLength} bytes`, {
        byteLength,
        windowBytes,
      });
    }
  };
  yamuxed.handleFrame = (frame) => {
    const bytes = frame.data?.byteLength ?? 0;
    if (bytes > 0) credit = Math.min(CREDIT_BYTES, credit + bytes - MEAN_FRAME_BYTES);
    if (credit < 0) {
      throw netError('MUXER_FRAME', `data frames have fewer than ${MEAN_FRAME_BYTES} bytes on average`);
    }
    handleFrame(frame);
  };
  return muxer;
}
