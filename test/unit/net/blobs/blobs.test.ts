import { randomBytes } from 'node:crypto';
import type { Stream } from '@libp2p/interface';
import { streamPair } from '@libp2p/utils';
import { encode } from 'it-length-prefixed';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../../common/time/system-clock.ts';
import { BlobServer } from '../../../../net/blobs/server.ts';
import {
  BLOB_HEADER_BYTES,
  BLOB_RANGE_TIMEOUT_MS,
  BLOB_STREAMS_PER_CONNECTION,
  blobAnswerSchema,
} from '../../../../net/blobs/wire.ts';
import { BLOCK_BYTES, FrameStream } from '../../../../net/frames.ts';
import type { StreamOpener, Streams } from '../../../../net/libp2p/streams.ts';
import { noMeter } from '../../../../net/meter.ts';
import { Shares } from '../../../../net/shares.ts';
import { proveMembership, provesMembership } from '../../../../protocol/access/job-key.ts';
import { decodeCbor, encodeCbor, sha256 } from '../../../../protocol/cbor.ts';
import { BLOB_FRAME_BYTES, BLOB_IDLE_TIMEOUT_MS, BLOB_RANGE_BYTES } from '../../../../protocol/limits.ts';
import { BLOB_PROTOCOL } from '../../../../protocol/requests/rpc.ts';
import { eventually } from '../../../utils/eventually.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';
import {
  join,
  rawStream,
  recordingLog,
  soon,
  startHost,
  startRaw,
  type TestHost,
} from '../../../utils/swarm/hosts.ts';

const MiB = 1024 * 1024;
const bytes = randomBytes(12 * MiB + 777);
const ref = { digest: sha256(bytes), size: bytes.length };

async function expectWhole(host: TestHost): Promise<void> {
  expect(Buffer.compare(await host.blobs.get(ref.digest, { maxBytes: ref.size }), bytes)).toBe(0);
}

describe('serving blobs', () => {
  async function ask(frames: FrameStream, stream: Stream, request: object) {
    stream.send(framed(encodeCbor(request)));
    return decodeCbor(await frames.read(BLOB_HEADER_BYTES, soon()), blobAnswerSchema, BLOB_HEADER_BYTES);
  }

  it('answers several requests on one stream, and reports absent bytes', async () => {
    const host = await startHost();
    await host.blobs.put(bytes);
    const stream = await rawStream(await startRaw(), host, BLOB_PROTOCOL);
    const frames = new FrameStream({ unreadBytes: 4 * 1024 * 1024 }, { stream });
    const { digest } = ref;
    expect(await ask(frames, stream, { digest: 'ab'.repeat(32), offset: 0, length: 1 })).toEqual({
      status: 'missing',
      total: 0,
    });
    expect(await ask(frames, stream, { digest, offset: ref.size, length: 1 })).toEqual({
      status: 'range',
      total: ref.size,
    });
    expect(await ask(frames, stream, { digest, offset: 5, length: 10 })).toEqual({
      status: 'ok',
      total: ref.size,
    });
    expect(Buffer.compare(await frames.read(10, soon()), bytes.subarray(5, 15))).toBe(0);
  });

  it('does not overwrite bytes passed to a stream before its next request', async () => {
    // The layers below may still read the bytes after `send`, to encrypt them, and do not say when they have finished.
    const { blobs } = await startHost();
    await blobs.put(bytes);
    const [client, served] = await streamPair();
    const sent: { handed: Uint8Array; copy: Uint8Array }[] = [];
    const send = served.send.bind(served);
    served.send = (data) => {
      const handed = data.subarray();
      sent.push({ handed, copy: Uint8Array.from(handed) });
      return send(data);
    };
    let serve: ((stream: Stream, from: StreamOpener) => Promise<void>) | undefined;
    const streams: Streams = {
      open: () => Promise.reject(new Error('not used')),
      handle: async (_protocol, _options, handler) => {
        serve = handler;
      },
    };
    const { ranges, buffers } = new Shares({ meter: noMeter });
    const server = new BlobServer({
      streams,
      ranges,
      buffers,
      blobs,
      clock: systemClock,
      log: recordingLog([]),
      meter: noMeter,
    });
    server.mayFetch = () => true;
    await server.start();
    const serving = serve!(served, { address: '192.0.2.1', peer: 'a peer', ip: null });
    const frames = new FrameStream({ unreadBytes: 4 * 1024 * 1024 }, { stream: client });
    for (const offset of [0, 1000, 5 * BLOB_RANGE_BYTES]) {
      await ask(frames, client, { digest: ref.digest, offset, length: BLOB_RANGE_BYTES });
      for (let at = 0; at < BLOB_RANGE_BYTES; ) at += (await frames.read(BLOB_FRAME_BYTES, soon())).length;
      expect(sent.length).toBeGreaterThan(1);
      for (const { handed, copy } of sent.splice(0)) expect(Buffer.compare(handed, copy)).toBe(0);
    }
    await client.close();
    await serving;
  });

  it('go to a peer that proves that it may have the blob', async () => {
    const [fetcher, host] = await Promise.all([startHost(), startHost()]);
    await host.blobs.put(bytes);
    await join(fetcher, host);
    const secret = { id: 3, key: randomBytes(32) };
    const job = 'ab'.repeat(32);
    host.network.serveBlobs((peer, _digest, proof) => {
      const ends = { requester: peer, holder: host.peer };
      return proof !== null && provesMembership(proof, job, secret, ends);
    });
    const options = { holders: [host.peer], signal: soon() };
    await expect(fetcher.network.fetchBlob(ref, options)).rejects.toMatchObject({ code: 'BLOB_UNAVAILABLE' });
    const prove = (holder: string) => proveMembership(job, secret, { requester: fetcher.peer, holder });
    await fetcher.network.fetchBlob(ref, { ...options, prove });
    await expectWhole(fetcher);
  });

  it('to a peer that may not have the blob looks like the answer for a blob that does not exist', async () => {
    const host = await startHost();
    await host.blobs.put(bytes);
    const taken: string[] = [];
    host.network.serveBlobs((peer) => {
      taken.push(peer);
      return false;
    });
    const raw = await startRaw();
    const stream = await rawStream(raw, host, BLOB_PROTOCOL);
    const frames = new FrameStream({ unreadBytes: 4 * MiB }, { stream });
    const answers: Uint8Array[] = [];
    for (const digest of [ref.digest, 'f'.repeat(64)]) {
      stream.send(framed(encodeCbor({ digest, offset: 0, length: 1 })));
      answers.push(Uint8Array.from(await frames.read(BLOB_HEADER_BYTES, soon())));
    }
    expect(answers[0]).toEqual(answers[1]);
    expect(decodeCbor(answers[0]!, blobAnswerSchema, BLOB_HEADER_BYTES)).toEqual({
      status: 'missing',
      total: 0,
    });
    expect(taken).toEqual([raw.peerId.toString(), raw.peerId.toString()]);
  });

  it('reads no more of the first range than its peer takes, plus two blocks, and the next at once', async () => {
    const host = await startHost();
    const { blobs } = host;
    await blobs.put(bytes);
    let read = 0;
    let reads = 0;
    const open = blobs.reader.bind(blobs);
    blobs.reader = async (digest) => {
      const reader = await open(digest);
      if (reader === null) return null;
      const readInto = reader.readInto.bind(reader);
      return Object.assign(reader, {
        readInto: (offset: number, targets: readonly Uint8Array[]) => {
          for (const { length } of targets) read += length;
          reads++;
          return readInto(offset, targets);
        },
      });
    };
    const stream = await rawStream(await startRaw(), host, BLOB_PROTOCOL);
    stream.pause();
    stream.send(framed(encodeCbor({ digest: ref.digest, offset: 0, length: BLOB_RANGE_BYTES })));
    await eventually(() => stream.readBufferLength > 100_000);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(read).toBeGreaterThan(0);
    expect(read).toBeLessThanOrEqual(2 * BLOCK_BYTES);
    stream.resume();
    await eventually(() => read === BLOB_RANGE_BYTES);
    expect(reads).toBeGreaterThan(2);
    reads = 0;
    stream.send(framed(encodeCbor({ digest: ref.digest, offset: 0, length: BLOB_RANGE_BYTES })));
    await eventually(() => read === 2 * BLOB_RANGE_BYTES);
    expect(reads).toBe(1);
  });

  it.each<[string, Uint8Array]>([
    ['not CBOR', framed(randomBytes(30))],
    ['too long', framed(randomBytes(BLOB_HEADER_BYTES + 1))],
    ['for a path', framed(encodeCbor({ digest: '../identity', offset: 0, length: 1 }))],
    [
      'for more than a range',
      framed(encodeCbor({ digest: ref.digest, offset: 0, length: BLOB_RANGE_BYTES + 1 })),
    ],
    ['for nothing', framed(encodeCbor({ digest: ref.digest, offset: 0, length: 0 }))],
    ['at a negative offset', framed(encodeCbor({ digest: ref.digest, offset: -1, length: 1 }))],
  ])('resets the stream of a request that is %s', async (_, request) => {
    const host = await startHost();
    const stream = await rawStream(await startRaw(), host, BLOB_PROTOCOL);
    stream.send(request);
    await eventually(() => stream.status === 'reset');
  });

  it('limits the streams of a peer', async () => {
    const host = await startHost();
    const raw = await startRaw();
    for (let i = 0; i < BLOB_STREAMS_PER_CONNECTION; i++) await rawStream(raw, host, BLOB_PROTOCOL);
    const extra = await rawStream(raw, host, BLOB_PROTOCOL).catch(() => null);
    await eventually(() => extra === null || extra.status === 'reset');
  });

  it('resets the stream of a peer that does not read', async () => {
    const clock = new ManualClock();
    const host = await startHost({ clock });
    await host.blobs.put(bytes);
    const stream = await rawStream(await startRaw(), host, BLOB_PROTOCOL);
    stream.pause();
    stream.send(framed(encodeCbor({ digest: ref.digest, offset: 0, length: BLOB_RANGE_BYTES })));
    // The first window arrives although the peer does not read; the rest waits at the sender.
    await eventually(() => stream.readBufferLength > 100_000);
    await eventually(() => {
      clock.advance(BLOB_RANGE_TIMEOUT_MS);
      return stream.status === 'reset';
    });
  });

  it('resets the stream of a silent peer', async () => {
    const clock = new ManualClock();
    const host = await startHost({ clock });
    const stream = await rawStream(await startRaw(), host, BLOB_PROTOCOL);
    await eventually(() => {
      clock.advance(BLOB_IDLE_TIMEOUT_MS);
      return stream.status === 'reset';
    });
  });
});

const framed = (content: Uint8Array): Uint8Array => encode.single(content).subarray();
