import { expect, it } from 'vitest';
import { silentLogger } from '../../../monitor/logs/log.ts';
import { NodeStore } from '../../../node/store/node-store.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import { BlobCollector, type UnusedBlobs } from '../../../storage/blob-collector.ts';
import type { BlobStore } from '../../../storage/blobs.ts';

it('stores a blob again only after a running sweep has deleted it', async () => {
  const bytes = Uint8Array.of(1, 2, 3);
  const digest = sha256(bytes);
  const files = new Set([digest]);
  const deleting = Promise.withResolvers<void>();
  const finish = Promise.withResolvers<void>();
  const blobs: Pick<BlobStore, 'put' | 'delete'> = {
    put: async () => {
      files.add(digest);
      return digest;
    },
    delete: async () => {
      deleting.resolve();
      await finish.promise;
      files.delete(digest);
    },
  };
  const store = NodeStore.open(':memory:');
  const collector = new BlobCollector({ store, blobs, log: silentLogger });
  const inWork = Promise.withResolvers<void>();
  const put = collector.withScope(async (scope) => {
    // The sweep starts while this work is running, before it has named its blob.
    await inWork.promise;
    const putting = scope.put(bytes);
    finish.resolve();
    await putting;
    expect([...files]).toEqual([digest]);
  });
  store.markUnused(digest);
  const sweeping = collector.sweep();
  await deleting.promise;
  inWork.resolve();
  await Promise.all([put, sweeping]);
});

it('keeps a blob that is recorded while the sweep deletes another', async () => {
  const kept = Uint8Array.of(1);
  // The sweep lists both blobs when it starts. The database decides their order.
  const [first, second] = [sha256(kept), sha256(Uint8Array.of(2))];
  const files = new Set([second]);
  const needed = new Set<string>();
  const listed = new Set<string>();
  const deleting = Promise.withResolvers<void>();
  const finish = Promise.withResolvers<void>();
  const store: UnusedBlobs = {
    markUnused: (digest) => void listed.add(digest),
    isUnused: (digest) => listed.has(digest) && !needed.has(digest),
    unused: () => [second, first].filter((digest) => store.isUnused(digest)),
    forget: (digest) => void listed.delete(digest),
  };
  const blobs: Pick<BlobStore, 'put' | 'delete'> = {
    put: async () => {
      files.add(first);
      return first;
    },
    delete: async (digest) => {
      deleting.resolve();
      await finish.promise;
      files.delete(digest);
    },
  };
  const collector = new BlobCollector({ store, blobs, log: silentLogger });
  const put = Promise.withResolvers<void>();
  const record = Promise.withResolvers<void>();
  const work = collector.withScope(async (scope) => {
    await scope.put(kept);
    put.resolve();
    await record.promise;
    needed.add(first);
  });
  await put.promise;
  store.markUnused(second);
  const sweeping = collector.sweep();
  await deleting.promise;
  // The work and its scope end while the sweep is still deleting the other blob.
  record.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  finish.resolve();
  await Promise.all([work, sweeping]);
  expect([...files]).toEqual([first]);
});

it('deletes the other blobs if one deletion fails, and retries it', async () => {
  const digests = [1, 2, 3].map((byte) => sha256(Uint8Array.of(byte))).sort();
  const files = new Set(digests);
  let broken: string | undefined = digests[0];
  const blobs: Pick<BlobStore, 'put' | 'delete'> = {
    put: async () => digests[0]!,
    delete: async (digest) => {
      if (digest === broken) throw new Error('EPERM');
      files.delete(digest);
    },
  };
  const store = NodeStore.open(':memory:');
  for (const digest of digests) store.markUnused(digest);
  const collector = new BlobCollector({ store, blobs, log: silentLogger });
  await collector.sweep();
  expect([...files]).toEqual([broken]);
  broken = undefined;
  await collector.sweep();
  expect([...files]).toEqual([]);
  expect(store.unused()).toEqual([]);
});
