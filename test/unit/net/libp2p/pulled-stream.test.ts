import { AbstractStream } from '@libp2p/utils';
import { expect, it } from 'vitest';
import type { IncompleteRpc } from '../../../../net/gossip-memory.ts';
import { PulledStream, UNREAD_BYTES } from '../../../../net/libp2p/pulled-stream.ts';
import { quietLogger } from '../../../../net/libp2p/quiet-logger.ts';

const FIRST_WINDOW_BYTES = 256 * 1024;
const memory = { add: async () => {}, handled: () => {}, release: () => {} } as unknown as IncompleteRpc;

/** A stream with the flow control of `@libp2p/yamux`, whose peer sends as much as it may. */
class GreedyStream extends AbstractStream {
  maxStreamWindowSize = 16 * 1024 * 1024;
  received = 0;
  #paused = false;
  #window = FIRST_WINDOW_BYTES;
  #credit = FIRST_WINDOW_BYTES;

  constructor() {
    super({ id: '1', direction: 'inbound', log: quietLogger.forComponent('test') });
  }

  /** Receives all that the window allows, and at most 4 MiB. */
  receive(): void {
    for (let left = 4 * 1024 * 1024; left > 0 && this.#credit > 0; left -= 16 * 1024) {
      const bytes = new Uint8Array(Math.min(16 * 1024, this.#credit));
      this.#credit -= bytes.length;
      this.received += bytes.length;
      this.onData(bytes);
      this.#updateWindow();
    }
  }

  #updateWindow(): void {
    if (this.#paused) return;
    this.#window = Math.min(2 * this.#window, this.maxStreamWindowSize);
    this.#credit = this.#window;
  }

  override sendPause(): void {
    this.#paused = true;
  }

  override sendResume(): void {
    this.#paused = false;
    this.#updateWindow();
  }

  override sendData = () => ({ sentBytes: 0, canSendMore: true });
  override sendReset = () => {};
  override sendCloseWrite = async () => {};
  override sendCloseRead = async () => {};
}

it('a gossip stream holds at most two windows of a peer that sends faster than its messages are handled', async () => {
  const stream = new GreedyStream();
  const reader = new PulledStream({ stream: stream as never, memory })[Symbol.asyncIterator]();
  let next = reader.next();
  let read = 0;
  let most = 0;
  for (let turn = 0; turn < 200; turn++) {
    stream.receive();
    most = Math.max(most, stream.received - read);
    const { value } = await next;
    read += value!.byteLength;
    next = reader.next();
  }
  expect(read).toBeGreaterThan(2 * FIRST_WINDOW_BYTES);
  expect(most).toBeLessThanOrEqual(2 * FIRST_WINDOW_BYTES + UNREAD_BYTES);
});
