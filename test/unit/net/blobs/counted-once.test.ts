import { randomBytes } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import type { Stream } from '@libp2p/interface';
import { streamPair } from '@libp2p/utils';
import { encode } from 'it-length-prefixed';
import { expect, it } from 'vitest';
import { systemClock } from '../../../../common/time/system-clock.ts';
import { RateLimit } from '../../../../net/bandwidth.ts';
import { BlobFetcher } from '../../../../net/blobs/fetcher.ts';
import { BLOB_HEADER_BYTES, blobRequestSchema } from '../../../../net/blobs/wire.ts';
import { FrameStream } from '../../../../net/frames.ts';
import type { Streams } from '../../../../net/libp2p/streams.ts';
import { noMeter } from '../../../../net/meter.ts';
import { decodeCbor, encodeCbor, sha256 } from '../../../../protocol/cbor.ts';
import { BLOB_FRAME_BYTES } from '../../../../protocol/limits.ts';
import { FileBlobStore } from '../../../../storage/blob-store.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';
import { recordingLog, soon } from '../../../utils/swarm/hosts.ts';

const STEP_MS = 50;

it('a download limit counts each byte of a range once, also if the range needed two requests', async () => {
  const bytes = randomBytes(10 * BLOB_FRAME_BYTES);
  const half = bytes.length / 2;
  const framed = (content: Uint8Array): Uint8Array => encode.single(content).subarray();
  let sent = 0;
  /** Answers requests, and breaks the first stream after half of the blob. */
  const serve = async (stream: Stream, isFirst: boolean): Promise<void> => {
    const frames = new FrameStream({ unreadBytes: BLOB_FRAME_BYTES }, { stream });
    for (;;) {
      const request = await frames.read(BLOB_HEADER_BYTES, soon());
      const { offset, length } = decodeCbor(request, blobRequestSchema, BLOB_HEADER_BYTES);
      stream.send(framed(encodeCbor({ status: 'ok', total: bytes.length })));
      for (let at = offset; at < offset + length; at += BLOB_FRAME_BYTES) {
        if (isFirst && at >= half) {
          await stream.close();
          return;
        }
        const frame = bytes.subarray(at, Math.min(at + BLOB_FRAME_BYTES, offset + length));
        sent += frame.length;
        stream.send(framed(frame));
      }
    }
  };
  let opened = 0;
  const streams: Streams = {
    open: async () => {
      const [own, served] = await streamPair();
      // The fetcher ends the stream when it has the whole blob.
      void serve(served, opened++ === 0).catch(() => {});
      return own;
    },
    handle: () => Promise.reject(new Error('not used')),
  };
  const clock = new ManualClock();
  const download = new RateLimit({ clock, total: () => sent });
  download.rate = bytes.length / 2;
  const blobs = await FileBlobStore.open({ home: await temporaryFolder() }, { clock: systemClock });
  const fetcher = new BlobFetcher({
    ...{ streams, blobs, clock, download, log: recordingLog([]), meter: noMeter },
  });
  let done = false;
  const fetching = fetcher
    .fetch({ digest: sha256(bytes), size: bytes.length }, { holders: ['a holder'], signal: soon() })
    .finally(() => {
      done = true;
    });
  let passed = 0;
  while (!done) {
    await turn();
    // The fetcher waits before it asks the holder again.
    if (opened === 1 && sent >= half) {
      clock.advance(STEP_MS);
      passed += STEP_MS;
    }
  }
  await fetching;
  expect({ opened, sent }).toEqual({ opened: 2, sent: bytes.length });
  // The bytes cost 2 s at this rate. One second is the burst, and the fetcher has waited 0.5 s before its second request.
  expect(download.waitMs()).toBeGreaterThanOrEqual(1_000 - passed);
  expect(download.waitMs()).toBeLessThanOrEqual(500 + STEP_MS);
});
