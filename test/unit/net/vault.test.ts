import { expect, test } from 'vitest';
import { silentLogger } from '../../../monitor/log.ts';
import type { BlobStore } from '../../../net/network.ts';
import { Vault } from '../../../net/vault.ts';
import { NodeStore } from '../../../node/store.ts';

import { sha256 } from '../../../protocol/cbor.ts';

test('what a sweep is deleting is put again only after it is gone', async () => {
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
  const vault = new Vault({}, { store, blobs, log: silentLogger });
  const inWork = Promise.withResolvers<void>();
  const put = vault.scoped(async (scope) => {
    // The sweep begins when this work already runs, and does not know yet what it will put.
    await inWork.promise;
    const putting = scope.put(bytes);
    finish.resolve();
    await putting;
    expect([...files]).toEqual([digest]);
  });
  store.loosen(digest);
  const sweeping = vault.sweep();
  await deleting.promise;
  inWork.resolve();
  await Promise.all([put, sweeping]);
});
