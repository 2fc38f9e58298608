import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { NodeScrub } from '../../../../node/blobs/node-scrub.ts';
import type { SwarmNodeView } from '../../../../node/jobs/swarm-node-view.ts';
import { NodeStore } from '../../../../node/store/node-store.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { toyJob } from '../../../utils/virtual/toy-job.ts';

const coordinator = signerOf(1).peerId;
const { manifest, job } = toyJob(signerOf(1));
const [file] = manifest.base.files;
const [shard] = manifest.data.shards;

/** Runs the scrub until its first pause. Returns what it did, in order. */
async function scrubbed(damaged: string) {
  const store = NodeStore.open(':memory:');
  const { jobFiles, origins } = store;
  jobFiles.bind({ job, coordinator });
  const blobs = [file!.digest, shard!.digest];
  const { base, name } = manifest;
  jobFiles.register({ job, name, base: base.digest, blobs, diskBytes: 1, at: 0 });
  jobFiles.register({ job: 'another', name: 'b', base: 'b'.repeat(64), blobs: [], diskBytes: 1, at: 0 });
  for (const digest of blobs) origins.add(digest, coordinator);
  const done: string[] = [];
  const clock = new ManualClock();
  const scrub = new NodeScrub({
    store,
    blobs: {
      size: async () => 1,
      check: async (digest) => (digest === damaged ? 'damaged' : 'whole'),
      delete: async (digest) => void done.push(`delete ${digest}`),
    },
    trainer: { keepBases: async (kept) => void done.push(`keep ${[...kept]}`) },
    clock,
    log: silentLogger,
    nodes: [
      {
        job,
        view: () => ({ context: { manifest } }) as SwarmNodeView,
        membership: { replace: (digest) => void done.push(`replace ${digest}`) },
      },
    ],
  });
  const run = scrub.run();
  expect(done).toEqual([]);
  clock.advance(60_000);
  await setImmediate();
  scrub.stop();
  await run;
  return { done, isServed: origins.has(damaged, coordinator) };
}

test('a damaged base file is deleted after its trainer has ended, and is fetched again', async () => {
  const { done, isServed } = await scrubbed(file!.digest);
  expect(done).toEqual([`keep ${'b'.repeat(64)}`, `delete ${file!.digest}`, `replace ${file!.digest}`]);
  expect(isServed).toBe(false);
});

test('a damaged data shard is fetched again, and the trainer goes on', async () => {
  const { done } = await scrubbed(shard!.digest);
  expect(done).toEqual([`delete ${shard!.digest}`, `replace ${shard!.digest}`]);
});

test('whole blobs stay', async () => {
  expect(await scrubbed('0'.repeat(64))).toEqual({ done: [], isServed: false });
});
