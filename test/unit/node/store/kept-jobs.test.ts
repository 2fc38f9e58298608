import { join } from 'node:path';
import { expect, test } from 'vitest';
import { NodeStore } from '../../../../node/store/node-store.ts';
import { OwnJobs } from '../../../../node/store/own-jobs.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { digest, JOB } from '../heads.ts';

const MANIFEST = { manifest: new Uint8Array([7]), at: 1 };

function jobOf(job: string, id = 1) {
  return { job, coordinator: 'boss', isOpen: false, key: { id, key: new Uint8Array(32).fill(id) } };
}

test('a new key of a job replaces the kept one, also after a restart', async () => {
  const home = await temporaryFolder();
  const path = join(home, 'node.sqlite');
  expect(OwnJobs.read(home).all).toEqual([]);
  const store = NodeStore.open(path);
  store.keptJobs.keep(jobOf(JOB), MANIFEST);
  expect(store.keptJobs.find(JOB)).toEqual(jobOf(JOB));
  store.keptJobs.learnKey(JOB, jobOf(JOB, 2).key);
  store.keptJobs.learnKey(digest('other', 1), jobOf(JOB, 3).key);
  // Another process reads the file while the node uses it.
  const own = OwnJobs.read(home);
  expect([own.all, own.only()]).toEqual([[jobOf(JOB, 2)], JOB]);
  expect(NodeStore.read(path).keptJobs.manifest(JOB)).toEqual(MANIFEST.manifest);
  store.keptJobs.keep(jobOf(digest('other', 1)), { ...MANIFEST, at: 2 });
  expect(OwnJobs.read(home).only()).toBeNull();
  store.close();
});

test('a node keeps the 64 jobs that it joined last', () => {
  const { keptJobs } = NodeStore.open(':memory:');
  for (let n = 0; n < 70; n++) keptJobs.keep(jobOf(digest('job', n)), { ...MANIFEST, at: n });
  expect(keptJobs.all).toHaveLength(64);
  expect([keptJobs.find(digest('job', 5)), keptJobs.find(digest('job', 6))?.job]).toEqual([
    null,
    digest('job', 6),
  ]);
});
