import { randomBytes } from 'node:crypto';
import { truncate, writeFile } from 'node:fs/promises';
import { encode } from 'it-length-prefixed';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../common/time/system-clock.ts';
import { BLOB_HEADER_BYTES } from '../../net/blobs/wire.ts';
import { FrameStream } from '../../net/frames.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import { BLOB_PROTOCOL } from '../../protocol/requests/rpc.ts';
import { FileBlobStore } from '../../storage/blob-store.ts';
import { eventually } from '../utils/eventually.ts';
import { temporaryFolder } from '../utils/folder.ts';
import { ManualClock } from '../utils/manual-clock.ts';
import { join, soon, startHost, startRaw, type TestHost } from '../utils/swarm/hosts.ts';

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

  it('fetches a blob into another store, even if the local store has it', async () => {
    const fetcher = await startHost();
    const from = await holder(fetcher);
    const into = await FileBlobStore.open({ home: await temporaryFolder() }, { clock: systemClock });
    await fetcher.blobs.put(bytes);
    const fetch = () => fetcher.network.fetchBlob(ref, { holders: [from.peer], into, signal: soon() });
    await fetch();
    expect(await into.check(ref.digest, { signal: soon() })).toBe('whole');
    expect(from.network.traffic().sent).toBeGreaterThan(ref.size);
    await fetch();
    expect(from.network.traffic().sent).toBeLessThan(1.5 * ref.size);
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
