/**
 * Yamux hardened against memory exhaustion. Written for `@libp2p/yamux` 8.0.3, which has two weaknesses:
 * - Its decoder buffers a whole frame, up to the 4 GiB that a header can announce, before it checks the size
 *   against the window. `onData` below closes the connection earlier.
 * - It accepts any number of tiny frames, each of which takes far more memory than its bytes. `handleFrame`
 *   below closes the connection if the mean size of the data frames falls below MEAN_FRAME_BYTES.
 *
 * If yamux checked the size of a frame before it buffers the frame, and limited the number of tiny frames, this file would
 * not be needed.
 *
 * `net/frame-buffer.ts` also defends against tiny pieces, and we need both. Only this file protects the streams that
 * libp2p reads itself (gossip, identify). But an attacker can keep the mean frame size just above the minimum, so the
 * frame buffer makes unread pieces of our own streams take no more memory than their bytes.
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
/**
 * Minimum mean size of data frames, in bytes. The frames of honest peers are larger: pings have 32 bytes,
 * protocol names about 20.
 */
const MEAN_FRAME_BYTES = 16;
/**
 * Number of almost empty frames that may arrive in a row. An unread frame takes about 250 bytes of memory, so these
 * frames take about 1 MB.
 */
const SMALL_FRAMES = 4096;
const CREDIT_BYTES = SMALL_FRAMES * MEAN_FRAME_BYTES;

/**
 * Creates a yamux muxer that closes a connection if a frame exceeds the largest window, or if data frames are too small
 * on average. A frame of one or two bytes takes over 100 times its size in memory. Nothing changes on the wire.
 * @param windowBytes largest flow-control window of a stream in bytes, which is also the largest valid data frame
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
