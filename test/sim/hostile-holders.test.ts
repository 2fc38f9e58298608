import { randomBytes } from 'node:crypto';
import type { Stream } from '@libp2p/interface';
import { encode } from 'it-length-prefixed';
import { describe, expect, it } from 'vitest';
import { BLOB_HEADER_BYTES, BLOB_RANGE_TIMEOUT_MS } from '../../net/blobs/wire.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import { BLOB_IDLE_TIMEOUT_MS } from '../../protocol/limits.ts';
import { BLOB_PROTOCOL } from '../../protocol/requests/rpc.ts';
import { eventually } from '../utils/eventually.ts';
import { ManualClock } from '../utils/manual-clock.ts';
import { soon, startHost, startRaw } from '../utils/swarm/hosts.ts';

const bytes = randomBytes(12 * 1024 * 1024 + 777);
const ref = { digest: sha256(bytes), size: bytes.length };

const framed = (content: Uint8Array): Uint8Array => encode.single(content).subarray();
const ok = framed(encodeCbor({ status: 'ok', total: ref.size }));

/** A host that fetches from a hostile holder. */
async function fetchFrom(answer: (stream: Stream) => void, clock?: ManualClock) {
  const fetcher = await startHost({ ...(clock && { clock }) });
  const hostile = await startRaw();
  await hostile.handle(BLOB_PROTOCOL, answer);
  await fetcher.network.connect(hostile.getMultiaddrs()[0]!.toString(), { signal: soon() });
  const attempt = fetcher.network.fetchBlob(ref, { holders: [hostile.peerId.toString()], signal: soon() });
  return { fetcher, attempt };
}

describe('a hostile holder', () => {
  it.each<[string, Uint8Array[]]>([
    ['garbage instead of an answer', [framed(randomBytes(20))]],
    ['an answer that is too long', [framed(randomBytes(BLOB_HEADER_BYTES + 1))]],
    ['a frame longer than a frame may be', [ok, framed(randomBytes(65_537))]],
    ['a length without end', [ok, new Uint8Array(20).fill(0xff)]],
    ['empty frames', [ok, framed(new Uint8Array())]],
    ['a range beyond the end', [framed(encodeCbor({ status: 'range', total: ref.size }))]],
  ])('that sends %s is given up', async (_, frames) => {
    const { fetcher, attempt } = await fetchFrom((stream) => {
      for (const frame of frames) stream.send(frame);
    });
    await expect(attempt).rejects.toEqual(expect.objectContaining({ code: expect.stringMatching(/^BLOB_/) }));
    expect(await fetcher.blobs.has(ref.digest)).toBe(false);
  });

  it('that closes the stream in the middle of each range is given up', async () => {
    const { attempt } = await fetchFrom((stream) => {
      stream.send(ok);
      stream.send(framed(randomBytes(1000)));
      void stream.close();
    });
    await expect(attempt).rejects.toMatchObject({ code: 'BLOB_UNAVAILABLE' });
  });

  it('that never answers is given up after the idle time', async () => {
    const clock = new ManualClock();
    const { attempt } = await fetchFrom(() => {}, clock);
    const outcome = expect(attempt).rejects.toMatchObject({ code: 'BLOB_UNAVAILABLE' });
    let settled = false;
    void attempt
      .catch(() => {})
      .finally(() => {
        settled = true;
      });
    await eventually(() => {
      clock.advance(BLOB_IDLE_TIMEOUT_MS);
      return settled;
    });
    await outcome;
  });

  it('that sends single bytes slowly is given up, though it is never idle for long', async () => {
    const clock = new ManualClock();
    const streams: Stream[] = [];
    const { attempt } = await fetchFrom((stream) => {
      stream.send(ok);
      streams.push(stream);
    }, clock);
    const outcome = expect(attempt).rejects.toMatchObject({ code: 'BLOB_UNAVAILABLE' });
    let settled = false;
    let moved = 0;
    void attempt
      .catch(() => {})
      .finally(() => {
        settled = true;
      });
    await eventually(() => {
      for (const stream of streams)
        if (stream.writeStatus === 'writable') stream.send(framed(Uint8Array.of(1)));
      clock.advance(BLOB_IDLE_TIMEOUT_MS / 10);
      moved += BLOB_IDLE_TIMEOUT_MS / 10;
      return settled;
    });
    await outcome;
    expect(moved).toBeGreaterThanOrEqual(BLOB_RANGE_TIMEOUT_MS);
  });
});
