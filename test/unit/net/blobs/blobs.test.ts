import { randomBytes } from 'node:crypto';
import { truncate, writeFile } from 'node:fs/promises';
import type { Stream } from '@libp2p/interface';
import { streamPair } from '@libp2p/utils';
import { encode } from 'it-length-prefixed';
import { describe, expect, it } from 'vitest';
import type { Claimant } from '../../../../common/fair-permits.ts';
import { systemClock } from '../../../../common/system-clock.ts';
import { BlobServer } from '../../../../net/blobs/server.ts';
import {
  BLOB_HEADER_BYTES,
  BLOB_RANGE_TIMEOUT_MS,
  BLOB_STREAMS_PER_CONNECTION,
  blobAnswerSchema,
} from '../../../../net/blobs/wire.ts';
import { BLOCK_BYTES, FrameStream } from '../../../../net/frames.ts';
import type { Streams } from '../../../../net/libp2p/streams.ts';
import { noMeter } from '../../../../net/meter.ts';
import { Shares } from '../../../../net/shares.ts';
import { decodeCbor, encodeCbor, sha256 } from '../../../../protocol/cbor.ts';
import { proveMembership, provesMembership } from '../../../../protocol/job-key.ts';
import { BLOB_FRAME_BYTES, BLOB_IDLE_TIMEOUT_MS, BLOB_RANGE_BYTES } from '../../../../protocol/limits.ts';
import { BLOB_PROTOCOL } from '../../../../protocol/rpc.ts';
import { eventually } from '../../../utils/eventually.ts';
import {
  join,
  rawStream,
  recordingLog,
  soon,
  startHost,
  startRaw,
  type TestHost,
} from '../../../utils/hosts.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

const MiB = 1024 * 1024;
const bytes = randomBytes(12 * MiB + 777);
const ref = { digest: sha256(bytes), size: bytes.length };

async function holder(to: TestHost): Promise<TestHost> {
  const host = await startHost();
  await host.blobs.put(bytes);
  await join(to, host);
  return host;
}

async function expectWhole(host: TestHost): Promise<void> {
  expect(Buffer.compare(await host.blobs.get(ref.digest, { maxBytes: ref.size }), bytes)).toBe(0);
}

describe('fetching a blob', () => {
  it('uses several holders at once', async () => {
    const fetcher = await startHost();
    const holders = await Promise.all([holder(fetcher), holder(fetcher), holder(fetcher)]);
    const progress: number[] = [];
    await fetcher.network.fetchBlob(ref, {
      holders: holders.map(({ peer }) => peer),
      signal: soon(),
      onProgress: ({ bytes: arrived, total }) => {
        expect(total).toBe(ref.size);
        progress.push(arrived);
      },
    });
    await expectWhole(fetcher);
    expect(progress.at(-1)).toBe(ref.size);
    expect(progress).toEqual([...progress].sort((a, b) => a - b));
    for (const { network } of holders) expect(network.traffic().sent).toBeGreaterThan(MiB);
  });

  it('resumes after its holder has stopped', async () => {
    const fetcher = await startHost();
    const first = await holder(fetcher);
    let dying: Promise<void> | undefined;
    const attempt = fetcher.network.fetchBlob(ref, {
      holders: [first.peer],
      signal: soon(),
      onProgress: ({ bytes: arrived }) => {
        if (arrived > 5 * MiB) dying ??= first.network.stop();
      },
    });
    await expect(attempt).rejects.toMatchObject({ code: 'BLOB_UNAVAILABLE' });
    await dying;
    const second = await holder(fetcher);
    await fetcher.network.fetchBlob(ref, { holders: [first.peer, second.peer], signal: soon() });
    await expectWhole(fetcher);
    expect(second.network.traffic().sent).toBeLessThan(8 * MiB);
  });

  it('resumes after it was aborted', async () => {
    const fetcher = await startHost();
    const from = await holder(fetcher);
    const controller = new AbortController();
    const reason = new Error('aborted');
    const attempt = fetcher.network.fetchBlob(ref, {
      holders: [from.peer],
      signal: controller.signal,
      onProgress: ({ bytes: arrived }) => arrived > 5 * MiB && controller.abort(reason),
    });
    await expect(attempt).rejects.toBe(reason);
    const before = from.network.traffic().sent;
    await fetcher.network.fetchBlob(ref, { holders: [from.peer], signal: soon() });
    await expectWhole(fetcher);
    expect(from.network.traffic().sent - before).toBeLessThan(8 * MiB);
  });

  it('ends with an error of its progress callback, and resumes afterwards', async () => {
    const fetcher = await startHost();
    const from = await holder(fetcher);
    const mistake = new TypeError('a mistake of the caller');
    const attempt = fetcher.network.fetchBlob(ref, {
      holders: [from.peer],
      signal: soon(),
      onProgress: ({ bytes: arrived }) => {
        if (arrived > 5 * MiB) throw mistake;
      },
    });
    await expect(attempt).rejects.toBe(mistake);
    await fetcher.network.fetchBlob(ref, { holders: [from.peer], signal: soon() });
    await expectWhole(fetcher);
  });

  it('transfers a blob once for two fetches at the same time', async () => {
    const fetcher = await startHost();
    const from = await holder(fetcher);
    const fetch = () => fetcher.network.fetchBlob(ref, { holders: [from.peer], signal: soon() });
    await Promise.all([fetch(), fetch()]);
    await expectWhole(fetcher);
    expect(from.network.traffic().sent).toBeLessThan(1.5 * ref.size);
    await fetch();
  });

  it('fetches a blob that the store has only if told to, and then only from a holder that has it', async () => {
    const [fetcher, empty] = await Promise.all([startHost(), startHost()]);
    const from = await holder(fetcher);
    await join(fetcher, empty);
    await fetcher.blobs.put(bytes);
    const fetch = (peer: string, again: boolean) =>
      fetcher.network.fetchBlob(ref, { holders: [peer], again, signal: soon() });
    await fetch(empty.peer, false);
    await expect(fetch(empty.peer, true)).rejects.toMatchObject({ code: 'BLOB_UNAVAILABLE' });
    await fetch(from.peer, false);
    expect(from.network.traffic().sent).toBeLessThan(ref.size / 10);
    await fetch(from.peer, true);
    expect(from.network.traffic().sent).toBeGreaterThan(ref.size);
    await expectWhole(fetcher);
  });

  it('finds the one holder with undamaged bytes', async () => {
    const fetcher = await startHost();
    const holders = await Promise.all([holder(fetcher), holder(fetcher), holder(fetcher)]);
    const damaged = Buffer.from(bytes);
    damaged[7 * MiB] = damaged[7 * MiB]! ^ 1;
    for (const bad of holders.slice(0, 2)) await writeFile(bad.blobs.path(ref.digest), damaged);
    await fetcher.network.fetchBlob(ref, { holders: holders.map(({ peer }) => peer), signal: soon() });
    await expectWhole(fetcher);
  });

  it('fails with BLOB_CORRUPT if no holder has it undamaged, and stores nothing', async () => {
    const fetcher = await startHost();
    const bad = await holder(fetcher);
    await writeFile(bad.blobs.path(ref.digest), randomBytes(ref.size));
    const attempt = fetcher.network.fetchBlob(ref, { holders: [bad.peer], signal: soon() });
    await expect(attempt).rejects.toMatchObject({ code: 'BLOB_CORRUPT' });
    await expect(attempt).rejects.toMatchObject({ values: { holders: { [bad.peer]: expect.any(String) } } });
    expect(await fetcher.blobs.has(ref.digest)).toBe(false);
  });

  it('refuses a blob of another size', async () => {
    const fetcher = await startHost();
    const shorter = await holder(fetcher);
    const options = { holders: [shorter.peer], signal: soon() };
    await truncate(shorter.blobs.path(ref.digest), ref.size - 1);
    await expect(fetcher.network.fetchBlob(ref, options)).rejects.toMatchObject({ code: 'BLOB_SIZE' });
    const longer = await holder(fetcher);
    await writeFile(longer.blobs.path(ref.digest), Buffer.concat([bytes, bytes]));
    await expect(
      fetcher.network.fetchBlob(ref, { holders: [longer.peer], signal: soon() }),
    ).rejects.toMatchObject({ code: 'BLOB_SIZE' });
    await expect(fetcher.network.fetchBlob({ ...ref, size: 2 ** 40 }, options)).rejects.toMatchObject({
      code: 'BLOB_SIZE',
    });
  });

  it('gives the reason of each holder if none has it', async () => {
    const fetcher = await startHost();
    const empty = await startHost();
    await join(fetcher, empty);
    const unknown = (await startHost()).peer;
    const attempt = fetcher.network.fetchBlob(ref, { holders: [empty.peer, unknown], signal: soon() });
    await expect(attempt).rejects.toMatchObject({ code: 'BLOB_UNAVAILABLE' });
    await expect(attempt).rejects.toMatchObject({
      values: { holders: { [empty.peer]: expect.any(String), [unknown]: expect.any(String) } },
    });
    await expect(fetcher.network.fetchBlob(ref, { holders: [], signal: soon() })).rejects.toMatchObject({
      code: 'BLOB_UNAVAILABLE',
    });
  });

  it('fetches many blobs at once from one holder, which limits the streams of a peer', async () => {
    const fetcher = await startHost();
    const from = await startHost();
    const contents = Array.from({ length: 6 }, () => randomBytes(3 * MiB));
    const digests = await Promise.all(contents.map((content) => from.blobs.put(content)));
    await join(fetcher, from);
    const options = { holders: [from.peer], signal: soon() };
    await Promise.all(digests.map((digest) => fetcher.network.fetchBlob({ digest, size: 3 * MiB }, options)));
    for (const digest of digests)
      expect(await fetcher.blobs.get(digest, { maxBytes: 3 * MiB })).toHaveLength(3 * MiB);
  });

  it('asks a busy holder again', async () => {
    const clock = new ManualClock();
    const content = randomBytes(1000);
    const small = { digest: sha256(content), size: content.length };
    const fetcher = await startHost({ clock });
    const raw = await startRaw();
    let refusals = 0;
    await raw.handle(BLOB_PROTOCOL, async (stream) => {
      const frames = new FrameStream({ unreadBytes: 4 * 1024 * 1024 }, { stream });
      while ((await frames.readChunks(BLOB_HEADER_BYTES, soon())) !== null) {
        const status = ++refusals <= 10 ? 'busy' : 'ok';
        stream.send(framed(encodeCbor({ status, total: status === 'ok' ? small.size : 0 })));
        if (status === 'ok') stream.send(framed(content));
      }
    });
    await fetcher.network.connect(raw.getMultiaddrs()[0]!.toString(), { signal: soon() });
    let done = false;
    const fetch = fetcher.network
      .fetchBlob(small, { holders: [raw.peerId.toString()], signal: soon() })
      .then(() => {
        done = true;
      });
    await eventually(() => {
      clock.advance(1000);
      return done;
    });
    await fetch;
    expect(refusals).toBeGreaterThan(10);
  });

  it('fetches the empty blob', async () => {
    const fetcher = await startHost();
    const empty = sha256(new Uint8Array());
    await fetcher.network.fetchBlob({ digest: empty, size: 0 }, { holders: [], signal: soon() });
    expect(await fetcher.blobs.size(empty)).toBe(0);
  });
});

const framed = (content: Uint8Array): Uint8Array => encode.single(content).subarray();

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
    // Lower layers may hold the bytes unencrypted and do not signal when they are done.
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
    let serve: ((stream: Stream, from: Claimant) => Promise<void>) | undefined;
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
    const serving = serve!(served, { address: '192.0.2.1', peer: 'a peer' });
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
