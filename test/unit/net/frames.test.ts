import { randomBytes } from 'node:crypto';
import type { Stream } from '@libp2p/interface';
import { streamPair } from '@libp2p/utils';
import fc from 'fast-check';
import { encode } from 'it-length-prefixed';
import { describe, expect, test } from 'vitest';
import { AnswerBuffer } from '../../../net/answer-buffer.ts';
import { BLOB_HEADER_BYTES } from '../../../net/blob-wire.ts';
import { FrameStream } from '../../../net/frames.ts';
import { BLOB_RANGE_BYTES } from '../../../protocol/limits.ts';
import { eventually } from '../../utils/eventually.ts';
import { soon, startRaw } from '../../utils/hosts.ts';

const code = (value: string) => expect.objectContaining({ code: value });
const framed = (content: Uint8Array): Uint8Array => encode.single(content).subarray();

async function pair(): Promise<{ writer: Stream; reader: Stream }> {
  const [writer, reader] = await streamPair();
  return { writer, reader };
}

describe('FrameStream', () => {
  test('frames arrive whole however they were cut on the way', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ maxLength: 400 }), { minLength: 1, maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 20 }),
        async (frames, cuts) => {
          const { writer, reader } = await pair();
          const frameReader = new FrameStream(reader);
          const wire = Buffer.concat(frames.map(framed));
          let at = 0;
          for (let i = 0; at < wire.length; i++) {
            const size = cuts[i % cuts.length]!;
            writer.send(wire.subarray(at, at + size));
            at += size;
          }
          void writer.close();
          for (const frame of frames)
            expect(Buffer.compare(await frameReader.read(400, soon()), frame)).toBe(0);
          expect(await frameReader.readChunks(400, soon())).toBeNull();
          writer.abort(new Error('done'));
          reader.abort(new Error('done'));
        },
      ),
      { numRuns: 50 },
    );
  });

  test('bytes that were sent before anybody listened are not lost, nor those before the end', async () => {
    const { writer, reader } = await pair();
    writer.send(framed(Buffer.from('early')));
    await writer.close();
    await eventually(() => reader.remoteWriteStatus === 'closed');
    const frames = new FrameStream(reader);
    expect(Buffer.from(await frames.read(10, soon())).toString()).toBe('early');
    expect(await frames.readChunks(10, soon())).toBeNull();
  });

  test('an end in the middle of a frame, or instead of one, is told apart from a proper one', async () => {
    for (const bytes of [Uint8Array.of(5, 1, 2), Uint8Array.of(0x80)]) {
      const { writer, reader } = await pair();
      const frames = new FrameStream(reader);
      writer.send(bytes);
      void writer.close();
      await expect(frames.readChunks(10, soon())).rejects.toEqual(code('FRAME_TRUNCATED'));
    }
    const { writer, reader } = await pair();
    void writer.close();
    await expect(new FrameStream(reader).read(10, soon())).rejects.toEqual(code('FRAME_TRUNCATED'));
  });

  test('a reset ends reading and writing with a typed error', async () => {
    const { writer, reader } = await pair();
    const frames = new FrameStream(reader);
    const reading = expect(frames.read(10, soon())).rejects.toEqual(code('STREAM_CLOSED'));
    writer.abort(new Error('reset'));
    await reading;
    await expect(frames.write([Uint8Array.of(1)], soon())).rejects.toEqual(code('STREAM_CLOSED'));
  });

  test('reading ends with its signal', async () => {
    const { reader } = await pair();
    const controller = new AbortController();
    const reading = new FrameStream(reader).read(10, controller.signal);
    controller.abort(new Error('too long'));
    await expect(reading).rejects.toThrow('too long');
  });

  test('nobody is let run ahead of a reader that does not read', async () => {
    // Over a real muxer, since that is what has a window.
    const [a, b] = await Promise.all([startRaw(), startRaw()]);
    let received: Stream | undefined;
    await b.handle('/test/1', (stream) => {
      received = stream;
    });
    await a.dial(b.getMultiaddrs(), { signal: soon() });
    const stream = await a.dialProtocol(b.peerId, '/test/1', { signal: soon() });
    const frame = randomBytes(64 * 1024);
    const count = 128;
    const writer = new FrameStream(stream);
    let written = 0;
    const writing = (async () => {
      for (let i = 0; i < count; i++) {
        await writer.write([frame], soon());
        written++;
      }
    })();
    await eventually(() => received);
    const reader = new FrameStream(received!);
    await eventually(() => stream.writableNeedsDrain && received!.readStatus === 'paused');
    expect(written * frame.length).toBeLessThan(3 * 1024 * 1024);
    for (let i = 0; i < count; i++)
      expect(Buffer.compare(await reader.read(frame.length, soon()), frame)).toBe(0);
    await writing;
  });
});

describe('AnswerBuffer', () => {
  test.each([1, 127, 128, 16_384, 65_536, 65_537, BLOB_RANGE_BYTES])(
    'lays %d bytes as the encoder would',
    (length) => {
      const content = randomBytes(length);
      const header = randomBytes(BLOB_HEADER_BYTES);
      const { bytes, targets } = new AnswerBuffer().lay(header, length);
      let at = 0;
      for (const target of targets) {
        target.set(content.subarray(at, at + target.length));
        at += target.length;
      }
      const pieces = [framed(header)];
      for (let i = 0; i < length; i += 65_536) pieces.push(framed(content.subarray(i, i + 65_536)));
      expect(Buffer.compare(bytes, Buffer.concat(pieces))).toBe(0);
    },
  );
});
