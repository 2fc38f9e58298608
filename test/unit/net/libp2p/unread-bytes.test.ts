import { AbstractStream } from '@libp2p/utils';
import { expect, it } from 'vitest';
import { FairPermits } from '../../../../common/limits/fair-permits.ts';
import { quietLogger } from '../../../../net/libp2p/quiet-logger.ts';
import { limitUnread, noteUnhandled, UNREAD_PERMIT_BYTES } from '../../../../net/libp2p/unread-bytes.ts';

/** A stream that tests put bytes into. */
class TestStream extends AbstractStream {
  constructor() {
    super({ id: '1', direction: 'inbound', log: quietLogger.forComponent('test') });
  }

  override sendPause(): void {}
  override sendResume(): void {}
  override sendData = () => ({ sentBytes: 0, canSendMore: true });
  override sendReset = () => {};
  override sendCloseWrite = async () => {};
  override sendCloseRead = async () => {};
}

function limited(total: number) {
  const permits = new FairPermits(
    { total, reserved: 0, withdraws: 'oldest' },
    { knows: () => false, onRefusal: () => {} },
  );
  const open = (address: string): TestStream => {
    const stream = new TestStream();
    limitUnread(stream as never, { address, peer: address }, () => permits);
    return stream;
  };
  return { permits, open };
}

const unit = new Uint8Array(UNREAD_PERMIT_BYTES);

it('counts the unread bytes of all streams, no matter which code reads them', () => {
  const { permits, open } = limited(100);
  const stream = open('a');
  stream.onData(unit);
  stream.onData(unit);
  expect(permits.size).toBe(2);
  stream.addEventListener('message', () => {});
  stream.onData(unit);
  expect(permits.size).toBe(0);
  noteUnhandled(stream as never, 3 * UNREAD_PERMIT_BYTES);
  expect(permits.size).toBe(3);
  noteUnhandled(stream as never, 100);
  expect(permits.size).toBe(0);
});

it('resets streams of the address that holds the most unread bytes', () => {
  const { permits, open } = limited(8);
  const greedy = [0, 1, 2].map(() => open('greedy'));
  for (const stream of greedy) for (let i = 0; i < 3; i++) stream.onData(unit);
  expect(greedy.map(({ status }) => status)).toEqual(['open', 'open', 'aborted']);
  const modest = open('modest');
  for (let i = 0; i < 3; i++) modest.onData(unit);
  expect(modest.status).toBe('open');
  expect(greedy[0]!.status).toBe('aborted');
  expect(permits.size).toBe(6);
});

it('frees the permits of a stream that closes', () => {
  const { permits, open } = limited(8);
  const stream = open('a');
  stream.onData(unit);
  stream.abort(new Error('off'));
  expect(permits.size).toBe(0);
});
