/**
 * Answers to pings. Written instead of the service of `@libp2p/ping` 3.1.13, which reads bytes from the stream without
 * a limit even while the peer does not read the answers. A peer can therefore fill a gigabyte of memory with one
 * connection. If the service paused the stream, this file would not be needed.
 */

import type { Libp2p, Stream, StreamMessageEvent } from '@libp2p/interface';

/** Name of the protocol in libp2p's ping specification. */
const PING_PROTOCOL = '/ipfs/ping/1.0.0';
/** Maximum number of ping streams of one connection, as libp2p's ping specification sets it. */
const STREAMS_PER_CONNECTION = 2;

/** The component of a libp2p node that this service needs. */
interface Components {
  readonly registrar: Pick<Libp2p, 'handle' | 'unhandle'>;
}

/** Returns a libp2p service that sends back what arrives on ping streams. */
export function pings(): (components: Components) => object {
  return ({ registrar }) => ({
    start: () =>
      registrar.handle(PING_PROTOCOL, echo, {
        maxInboundStreams: STREAMS_PER_CONNECTION,
        runOnLimitedConnection: true,
      }),
    stop: () => registrar.unhandle(PING_PROTOCOL),
  });
}

/** Sends back all bytes of a stream. Pauses the stream while the peer does not read them. */
export function echo(stream: Stream): void {
  let flows = true;
  let resuming = false;
  const pause = (): void => {
    if (!flows && stream.readStatus === 'readable') stream.pause();
  };
  const abort = (error: unknown): void =>
    stream.abort(error instanceof Error ? error : new Error(String(error)));
  stream.addEventListener('message', ({ data }: StreamMessageEvent) => {
    if (stream.writeStatus !== 'writable') return;
    flows = stream.send(data) && flows;
    // While `stream.resume` runs, do not pause, because yamux would undo the pause at the end of that call.
    // The function below pauses after the call.
    if (!resuming) pause();
  });
  const resume = (): void => {
    if (flows || stream.writeBufferLength > 0 || stream.readStatus !== 'paused') return;
    flows = true;
    resuming = true;
    stream.resume();
    resuming = false;
    pause();
  };
  // If the stream still holds bytes at the event `drain`, `resume` does nothing, and the event `idle` follows later.
  stream.addEventListener('drain', resume);
  stream.addEventListener('idle', resume);
  stream.addEventListener('remoteCloseWrite', () => void stream.close().catch(abort));
}
