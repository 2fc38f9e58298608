import type { StreamMuxer, StreamMuxerFactory } from '@libp2p/interface';
import { type YamuxMuxerInit, yamux } from '@libp2p/yamux';
import { netError } from '../errors.ts';

/** What a connection multiplexed by yamux is at run time; its published type does not say so, and nothing else relies on it. */
interface YamuxConnection {
  /** Holds what has arrived of a frame that is not complete. */
  readonly decoder: { readonly buffer: { readonly byteLength: number } };
  onData(bytes: unknown): void;
  handleFrame(frame: { readonly data?: { readonly byteLength: number } }): void;
}

const HEADER_BYTES = 12;
/** Bytes that a data frame of ours, or of any honest peer, has on average at least: pings have 32, names of protocols 20. */
const MEAN_FRAME_BYTES = 16;
/** Smaller ones that may come in a row. Each is kept as an object of some 250 bytes until it is read. */
const SMALL_FRAMES = 4096;
const CREDIT_BYTES = SMALL_FRAMES * MEAN_FRAME_BYTES;

/**
 * Yamux, as the library has it on the wire, against peers that wear it out: a frame that says it is larger than any can
 * be is collected whole before its size is looked at, up to 4 GiB of it; and frames of a byte or two cost a hundred times
 * what they carry. Either ends the connection.
 * @param windowBytes largest flow-control window of a stream: no data frame is larger
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
  // Both are called where the library takes an error for the peer's, and closes the connection.
  yamuxed.onData = (bytes) => {
    onData(bytes);
    const { byteLength } = yamuxed.decoder.buffer;
    if (byteLength > HEADER_BYTES + windowBytes) {
      throw netError('MUXER_FRAME', `a frame goes on after ${byteLength} bytes`, {
        byteLength,
        windowBytes,
      });
    }
  };
  yamuxed.handleFrame = (frame) => {
    const bytes = frame.data?.byteLength ?? 0;
    if (bytes > 0) credit = Math.min(CREDIT_BYTES, credit + bytes - MEAN_FRAME_BYTES);
    if (credit < 0) {
      throw netError('MUXER_FRAME', `frames have fewer than ${MEAN_FRAME_BYTES} bytes on average`, {});
    }
    handleFrame(frame);
  };
  return muxer;
}
