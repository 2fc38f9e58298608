import { randomBytes } from 'node:crypto';
import type { Stream } from '@libp2p/interface';
import { encode } from 'it-length-prefixed';
import { describe, expect, it } from 'vitest';
import { BLOB_HEADER_BYTES, type BlobRequest, blobRequestSchema } from '../../net/blobs/wire.ts';
import { FrameStream } from '../../net/frames.ts';
import { decodeCbor, encodeCbor, sha256 } from '../../protocol/cbor.ts';
import { BLOB_FRAME_BYTES } from '../../protocol/limits.ts';
import { BLOB_PROTOCOL } from '../../protocol/requests/rpc.ts';
import { eventually } from '../utils/eventually.ts';
import { ManualClock } from '../utils/manual-clock.ts';
import { join, soon, startHost, startRaw, type TestHost } from '../utils/swarm/hosts.ts';

const MiB = 1024 * 1024;
const bytes = randomBytes(8 * MiB + 777);
const ref = { digest: sha256(bytes), size: bytes.length };

const framed = (content: Uint8Array): Uint8Array => encode.single(content).subarray();

/** A request of a range that a slow holder answers frame by frame. */
interface Answer {
  readonly stream: Stream;
  readonly request: BlobRequest;
  sent: number;
}

/** A holder that sends frames only when the test says so. */
async function slowHolder(fetcher: TestHost) {
  const node = await startRaw();
  /** The unfinished answers. The first one has waited for the longest time. */
  const answers: Answer[] = [];
  const requests: BlobRequest[] = [];
  let most = 0;
  await node.handle(
    BLOB_PROTOCOL,
    async (stream) => {
      const frames = new FrameStream({ unreadBytes: 4 * MiB }, { stream });
      // The peer has closed the stream.
      const next = () => frames.readChunks(BLOB_HEADER_BYTES, soon()).catch(() => null);
      for (let chunks = await next(); chunks !== null; chunks = await next()) {
        const request = decodeCbor(Buffer.concat(chunks), blobRequestSchema, BLOB_HEADER_BYTES);
        requests.push(request);
        stream.send(framed(encodeCbor({ status: 'ok', total: ref.size })));
        answers.push({ stream, request, sent: 0 });
        most = Math.max(most, answers.length);
      }
    },
    { maxInboundStreams: 8 },
  );
  await fetcher.network.connect(node.getMultiaddrs()[0]!.toString(), { signal: soon() });
  /** Sends a frame of the answer that has waited for the longest time. Returns this answer; undefined if there is none. */
  const send = (): Answer | undefined => {
    const answer = answers.shift();
    if (answer === undefined || answer.stream.status !== 'open') return undefined;
    const { offset, length } = answer.request;
    const at = offset + answer.sent;
    const end = Math.min(at + BLOB_FRAME_BYTES, offset + length);
    answer.stream.send(framed(bytes.subarray(at, end)));
    answer.sent += end - at;
    if (answer.sent < length) answers.push(answer);
    return answer;
  };
  return { peer: node.peerId.toString(), requests, send, most: () => most };
}

async function expectWhole({ blobs }: TestHost): Promise<void> {
  expect(Buffer.compare(await blobs.get(ref.digest, { maxBytes: ref.size }), bytes)).toBe(0);
}

/**
 * Fetches the blob from a holder with a slow link, in virtual time.
 * @param rateAt returns the bytes per second of the link after a number of frames
 */
async function fetchSlowly(rateAt: (frames: number) => number, onFrame = (_answer: Answer): void => {}) {
  const clock = new ManualClock();
  const fetcher = await startHost({ clock });
  const holder = await slowHolder(fetcher);
  let arrived = 0;
  let settled = false;
  const fetching = fetcher.network
    .fetchBlob(ref, {
      holders: [holder.peer],
      signal: AbortSignal.timeout(60_000),
      onArrival: () => arrived++,
    })
    .finally(() => {
      settled = true;
    });
  // The error of a fetch that failed reaches the test below.
  fetching.catch(() => {});
  let sent = 0;
  let frames = 0;
  await eventually(
    async () => {
      const before = arrived;
      const answer = holder.send();
      if (answer !== undefined) {
        const length = Math.min(BLOB_FRAME_BYTES, bytes.length);
        await eventually(() => arrived > before || settled, { interval: 1 });
        sent += length;
        onFrame(answer);
        clock.advance((1000 * length) / rateAt(++frames));
      } else clock.advance(100);
      return settled;
    },
    { interval: 0, timeout: 60_000 },
  );
  await fetching;
  await expectWhole(fetcher);
  return { ...holder, sent };
}

describe('a slow holder', () => {
  it.each([20, 60, 95])('with %i KiB/s gives a whole blob, and sends no byte twice', async (rate) => {
    const { requests, sent } = await fetchSlowly(() => rate * 1024);
    // Pings wait behind an answer, so its bytes must arrive within 15 s.
    for (const { length } of requests) expect(length).toBeLessThan(10 * rate * 1024);
    expect(sent).toBeLessThan(ref.size + BLOB_FRAME_BYTES);
  });

  it('with much bandwidth gets several requests at once', async () => {
    const { most } = await fetchSlowly(() => 4 * MiB);
    expect(most()).toBeGreaterThan(3);
  });

  it('that breaks a stream in the middle of a range is asked only for the rest', async () => {
    let broken = 0;
    const { sent: total } = await fetchSlowly(
      () => 200 * 1024,
      ({ stream, sent, request }) => {
        if (sent !== 10 * BLOB_FRAME_BYTES || sent === request.length) return;
        broken++;
        stream.abort(new Error('broken'));
      },
    );
    expect(broken).toBeGreaterThan(2);
    expect(total).toBeLessThan(ref.size + BLOB_FRAME_BYTES);
  });

  it('that becomes slow while it answers several requests gives a whole blob, and sends no byte twice', async () => {
    const { most, sent } = await fetchSlowly((frames) => (frames < 64 ? 4 * MiB : 20 * 1024));
    expect(most()).toBeGreaterThan(2);
    expect(sent).toBeLessThan(ref.size + BLOB_FRAME_BYTES);
  });

  it('that stops sending does not delay a fetch that another holder can serve', async () => {
    const clock = new ManualClock();
    const fetcher = await startHost({ clock });
    const slow = await slowHolder(fetcher);
    const honest = await startHost();
    await honest.blobs.put(bytes);
    await join(fetcher, honest);
    const holders = [slow.peer, honest.peer];
    await fetcher.network.fetchBlob(ref, { holders, signal: soon() });
    await expectWhole(fetcher);
    expect(slow.requests.length).toBeGreaterThan(0);
  });
});
