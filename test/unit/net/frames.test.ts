import { randomBytes } from 'node:crypto';
import type { Stream } from '@libp2p/interface';
import { streamPair } from '@libp2p/utils';
import fc from 'fast-check';
import { encode } from 'it-length-prefixed';
import { describe, expect, it } from 'vitest';
import { AnswerBuffer } from '../../../net/blobs/answer-buffer.ts';
import { BLOB_HEADER_BYTES } from '../../../net/blobs/wire.ts';
import { BLOCK_BYTES, FrameStream } from '../../../net/frames.ts';
import { BLOB_RANGE_BYTES } from '../../../protocol/limits.ts';
import { eventually } from '../../utils/eventually.ts';
import { soon } from '../../utils/swarm/hosts.ts';

const framed = (content: Uint8Array): Uint8Array => encode.single(content).subarray();

function framesOf(stream: Stream, unreadBytes = 4096): FrameStream {
  return new FrameStream({ unreadBytes }, { stream });
}

async function pair(): Promise<{ writer: Stream; reader: Stream }> {
  const [writer, reader] = await streamPair();
  return { writer, reader };
}

describe('FrameStream', () => {
  it('reads frames whole, however they are split', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ maxLength: 400 }), { minLength: 1, maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 20 }),
        async (frames, cuts) => {
          const { writer, reader } = await pair();
          const frameReader = framesOf(reader);
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

  it('waits until its stream has passed on all bytes, not only until the connection has drained', async () => {
    const stream = Object.assign(new EventTarget(), {
      status: 'open',
      writeStatus: 'writable',
      remoteWriteStatus: 'writable',
      writeBufferLength: 100,
      send: () => false,
    });
    let written = false;
    const frames = framesOf(stream as unknown as Stream);
    const writing = frames.writeFramed(Buffer.alloc(100), soon()).then(() => {
      written = true;
    });
    stream.dispatchEvent(new Event('drain'));
    await new Promise(setImmediate);
    expect(written).toBe(false);
    stream.writeBufferLength = 0;
    stream.dispatchEvent(new Event('idle'));
    await writing;
    expect(written).toBe(true);
  });

  it('discards what arrives after it was told to, and resets a stream that goes on', async () => {
    const { writer, reader } = await pair();
    const frames = framesOf(reader, 1000);
    const reason = new Error('not wanted');
    const reading = expect(frames.read(400, soon())).rejects.toBe(reason);
    writer.send(Buffer.from([100, 1, 2, 3]));
    await eventually(() => reader.readBufferLength === 0);
    frames.discard(reason);
    await reading;
    writer.send(framed(Buffer.alloc(100)));
    await expect(frames.read(400, soon())).rejects.toBe(reason);
    expect(reader.status).toBe('open');
    for (let i = 0; i < 5; i++) if (writer.writeStatus === 'writable') writer.send(Buffer.alloc(1024 * 1024));
    await eventually(() => reader.status === 'aborted');
  });

  it('loses no bytes that arrive before it is created or just before the end', async () => {
    const { writer, reader } = await pair();
    writer.send(framed(Buffer.from('early')));
    await writer.close();
    await eventually(() => reader.remoteWriteStatus === 'closed');
    const frames = framesOf(reader);
    expect(Buffer.from(await frames.read(10, soon())).toString()).toBe('early');
    expect(await frames.readChunks(10, soon())).toBeNull();
  });

  it('distinguishes a clean end from one in the middle of a frame or instead of one', async () => {
    for (const bytes of [Uint8Array.of(5, 1, 2), Uint8Array.of(0x80)]) {
      const { writer, reader } = await pair();
      const frames = framesOf(reader);
      writer.send(bytes);
      void writer.close();
      await expect(frames.readChunks(10, soon())).rejects.toMatchObject({ code: 'FRAME_TRUNCATED' });
    }
    const { writer, reader } = await pair();
    void writer.close();
    await expect(framesOf(reader).read(10, soon())).rejects.toMatchObject({ code: 'FRAME_TRUNCATED' });
  });

  it('ends reading and writing with a typed error on a reset', async () => {
    const { writer, reader } = await pair();
    const frames = framesOf(reader);
    const reading = expect(frames.read(10, soon())).rejects.toMatchObject({ code: 'STREAM_CLOSED' });
    writer.abort(new Error('reset'));
    await reading;
    await expect(frames.write([Uint8Array.of(1)], soon())).rejects.toMatchObject({ code: 'STREAM_CLOSED' });
  });

  it('stops reading when its signal aborts', async () => {
    const { reader } = await pair();
    const controller = new AbortController();
    const reading = framesOf(reader).read(10, controller.signal);
    controller.abort();
    await expect(reading).rejects.toBe(controller.signal.reason);
  });

  it('stops reading a peer that sends too much, which still receives an error', async () => {
    const { writer, reader } = await pair();
    const frames = framesOf(reader, 1000);
    for (let i = 0; i < 3; i++) {
      writer.send(framed(randomBytes(900)));
      expect((await frames.read(900, soon())).length).toBe(900);
    }
    writer.send(Buffer.concat([1, 2, 3].map(() => framed(randomBytes(400)))));
    await expect(frames.read(400, soon())).rejects.toMatchObject({ code: 'FRAME_FLOOD' });
    await frames.write([Buffer.from('no')], soon());
    expect(Buffer.from(await framesOf(writer).read(2, soon())).toString()).toBe('no');
  });

  it('sends an error to a peer after an oversized frame, and resets it if it keeps sending', async () => {
    const { writer, reader } = await pair();
    const frames = framesOf(reader, 1000);
    writer.send(framed(randomBytes(900)).subarray(0, 500));
    await expect(frames.read(800, soon())).rejects.toMatchObject({ code: 'FRAME_TOO_LARGE' });
    for (let i = 0; i < 100; i++) writer.send(randomBytes(1000));
    await frames.write([Buffer.from('no')], soon());
    expect(Buffer.from(await framesOf(writer).read(2, soon())).toString()).toBe('no');
    expect(reader.status).toBe('open');
    writer.send(randomBytes(5 * 1024 * 1024));
    await eventually(() => reader.status === 'aborted');
  });

  it('stores frames that arrive in single bytes in few chunks', async () => {
    const { writer, reader } = await pair();
    const frames = framesOf(reader, 70_000);
    const content = randomBytes(40_000);
    const wire = framed(content);
    // Now and then, a large piece arrives. It is kept as a chunk of its own.
    for (let at = 0; at < wire.length; ) {
      const size = at % 10_000 === 0 ? 3000 : 1;
      writer.send(wire.subarray(at, at + size));
      at += size;
    }
    const chunks = (await frames.readChunks(content.length, soon()))!;
    expect(Buffer.concat(chunks).equals(content)).toBe(true);
    expect(chunks.length).toBeLessThan(20);
  });
});

describe('AnswerBuffer', () => {
  it.each([true, false])('has the memory of its last answer: %s', (keeps) => {
    const buffer = new AnswerBuffer({ keeps });
    const memory = (): Set<ArrayBufferLike> =>
      new Set([...buffer.lay(Buffer.alloc(10), BLOB_RANGE_BYTES)].map(({ bytes }) => bytes.buffer));
    const first = memory();
    expect(first.size).toBe(5);
    expect([...memory()].filter((block) => first.has(block))).toHaveLength(keeps ? 5 : 0);
  });

  it.each([1, 127, 128, 16_384, 65_536, 65_537, BLOB_RANGE_BYTES])(
    'frames %d bytes as the encoder does',
    (length) => {
      const content = randomBytes(length);
      const header = randomBytes(BLOB_HEADER_BYTES);
      const blocks: Uint8Array[] = [];
      let at = 0;
      for (const { bytes, targets } of new AnswerBuffer({ keeps: true }).lay(header, length)) {
        for (const target of targets) {
          target.set(content.subarray(at, at + target.length));
          at += target.length;
        }
        blocks.push(bytes);
      }
      expect(blocks.slice(0, -1).every(({ length }) => length === BLOCK_BYTES)).toBe(true);
      const pieces = [framed(header)];
      for (let i = 0; i < length; i += 65_536) pieces.push(framed(content.subarray(i, i + 65_536)));
      expect(Buffer.compare(Buffer.concat(blocks), Buffer.concat(pieces))).toBe(0);
    },
  );
});
