import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { beforeEach, expect, test } from 'vitest';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { NodeStore } from '../../../../node/store/node-store.ts';
import { SCHEMA } from '../../../../node/store/schema.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { BlobCollector } from '../../../../storage/blob-collector.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { MemoryBlobs, MemoryDisk } from '../../../utils/virtual/memory-blobs.ts';
import { SeededRandom } from '../../../utils/virtual/seeded-random.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';
import { digest, JOB } from '../heads.ts';

let store: NodeStore;
beforeEach(() => {
  store = NodeStore.open(':memory:');
});

function save(
  round: number,
  digests: Partial<Record<'update' | 'feedback' | 'optimizer', string>> = {},
  { job = JOB, at = round }: { job?: string; at?: number } = {},
): void {
  const update = digests.update ?? digest('update', round);
  store.saveUpdate({
    update: {
      job,
      round,
      update,
      bytes: 10,
      preset: 'dense',
      envelope: new Uint8Array([1, 2]),
      at,
    },
    feedback: digests.feedback ?? digest('feedback', round),
    optimizer: digests.optimizer ?? digest('optimizer', round),
    tokensPerSecond: 5,
    work: { tokens: 100 * round, seconds: round },
  });
}

test('a round cannot have a second update', () => {
  save(1);
  expect(() => save(1, { update: digest('other', 1) })).toThrow(withCode('UPDATE_EXISTS'));
  // The second attempt has changed nothing.
  expect(store.job(JOB)).toMatchObject({ feedback: digest('feedback', 1), feedbackRound: 1 });
  expect(store.update(JOB, 1)?.update).toBe(digest('update', 1));
});

test('an update is settled once', () => {
  save(1);
  expect(store.settle(JOB, 1, { outcome: 'restored', feedback: digest('feedback', 2) })).toBe(true);
  expect(store.settle(JOB, 1, { outcome: 'restored', feedback: digest('feedback', 3) })).toBe(false);
  expect(store.job(JOB).feedback).toBe(digest('feedback', 2));
  expect(store.history(JOB)).toEqual({ lastRound: 1, pending: [] });
});

test('a restart restores the history of a job', async () => {
  const path = join(await temporaryFolder(), 'node.sqlite');
  store = NodeStore.open(path);
  save(3);
  save(4);
  store.saveReceipt(JOB, 4, { code: 'accepted', detail: '' });
  store.settle(JOB, 3, { outcome: 'counted', feedback: null });
  expect(store.firstTime('consent')).toBe(true);
  store.close();
  const again = NodeStore.open(path);
  expect(again.history(JOB)).toEqual({
    lastRound: 4,
    pending: [{ round: 4, update: digest('update', 4), code: 'accepted' }],
  });
  expect(again.job(JOB)).toMatchObject({ feedbackRound: 4, tokensPerSecond: 5 });
  expect(again.updates(1)).toMatchObject([{ round: 4, envelope: new Uint8Array([1, 2]) }]);
  expect(again.firstTime('consent')).toBe(false);
  again.close();
});

test('a settled update keeps no message', () => {
  save(1);
  store.settle(JOB, 1, { outcome: 'counted', feedback: null });
  expect(store.update(JOB, 1)).toMatchObject({ envelope: null, outcome: 'counted' });
});

test('deletes files of finished jobs first, then of the jobs unused longest, until the rest fits; keeps shared blobs', () => {
  const { jobFiles } = store;
  const enter = (job: string, at: number, blobs: string[]): void =>
    jobFiles.register({
      job,
      name: `name of ${job}`,
      base: `base of ${job}`,
      blobs,
      diskBytes: 10,
      at,
    });
  enter('a', 1, ['shared', 'only a']);
  enter('b', 2, ['only b']);
  enter('c', 3, ['shared', 'only c']);
  enter('d', 4, ['only d']);
  jobFiles.markOver('c');
  const surplus = (maxBytes: number, active = ['d'], finished: string[] = []) =>
    jobFiles.surplus({ active: new Set(active), finished: new Set(finished) }, maxBytes).sort();
  expect(surplus(1000)).toEqual(['c']);
  expect(surplus(20)).toEqual(['a', 'c']);
  // The current job always stays, because checkPolicy has already compared its size with the owner's limit.
  expect(surplus(5)).toEqual(['a', 'b', 'c']);
  // All jobs that the node trains now stay, and the files of a job that has just finished stay if there is space.
  expect(surplus(5, ['a', 'd'])).toEqual(['b', 'c']);
  expect(surplus(1000, ['d'], ['c'])).toEqual([]);
  expect(surplus(30, ['d'], ['c'])).toEqual(['a']);
  expect(surplus(10, ['d'], ['c'])).toEqual(['a', 'b', 'c']);
  jobFiles.release('c');
  expect(store.unused()).toEqual(['only c']);
  jobFiles.release('a');
  expect(store.unused().sort()).toEqual(['only a', 'only c', 'shared']);
  expect(jobFiles.bases()).toEqual(new Set(['base of b', 'base of d']));
  enter('c', 5, ['shared', 'only c']);
  expect(store.unused()).toEqual(['only a']);
});

test('refuses the file of another release, and changes nothing in it', async () => {
  const path = join(await temporaryFolder(), 'node.sqlite');
  const old = new DatabaseSync(path);
  old.exec('PRAGMA user_version = 13');
  const values = { path, found: 13, known: SCHEMA.version };
  for (const open of [NodeStore.open, NodeStore.read]) {
    expect(() => open(path)).toThrow(expect.objectContaining({ code: 'STORE_OLDER', values }));
  }
  expect(old.prepare('SELECT count(*) AS tables FROM sqlite_schema').get()).toEqual({ tables: 0 });
  old.close();
});

test('deletes blobs that no row names: replaced ones, and those of aborted work and of a killed process', async () => {
  const clock = new VirtualClock(0);
  const disk = new MemoryDisk();
  const blobs = new MemoryBlobs({ disk, clock, random: new SeededRandom(1), isAlive: () => true });
  const collector = new BlobCollector({ store, blobs, log: silentLogger });
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
  const named = (text: string): string => sha256(bytes(text));
  let done = false;
  (async () => {
    await collector.withScope(async (scope) => {
      await scope.put(bytes('feedback 1'));
      await scope.put(bytes('optimizer 1'));
      await scope.put(bytes('update 1'));
      save(1, {
        update: named('update 1'),
        feedback: named('feedback 1'),
        optimizer: named('optimizer 1'),
      });
    });
    await collector
      .withScope(async (scope) => {
        await scope.put(bytes('of an aborted round'));
        throw new Error('aborted');
      })
      .catch(() => {});
    // An earlier process wrote this blob, and died before it recorded the blob in a table.
    store.markUnused(named('of a killed process'));
    await blobs.put(bytes('of a killed process'));
    await collector.withScope(async (scope) => {
      await scope.put(bytes('feedback 2'));
      store.settle(JOB, 1, { outcome: 'restored', feedback: named('feedback 2') });
    });
    done = true;
  })();
  await clock.run(() => done, 10_000);
  expect([...disk.files.keys()].sort()).toEqual([named('feedback 2'), named('optimizer 1')].sort());
});

test('totals count the updates that the coordinator accepted, and survive a new job', () => {
  const files = { base: 'b', blobs: [], diskBytes: 1, at: 1 };
  store.jobFiles.register({ ...files, job: JOB, name: 'moby' });
  for (const round of [1, 2, 3, 4]) save(round);
  store.saveReceipt(JOB, 1, { code: 'accepted', detail: '' });
  store.settle(JOB, 1, { outcome: 'counted', feedback: null });
  store.saveReceipt(JOB, 2, { code: 'harmful', detail: '' });
  store.settle(JOB, 2, { outcome: 'restored', feedback: null });
  store.saveReceipt(JOB, 3, { code: 'accepted', detail: '' });
  const totals = { job: JOB, name: 'moby', accepted: 2, refused: 1, tokens: 400, seconds: 4 };
  expect(store.totals.jobs()).toEqual([{ ...totals, contribution: null }]);
  const contribution = { round: 3, place: 2, contributors: 5, tokens: 300, totalTokens: 4000 };
  store.totals.saveContribution(JOB, { ...contribution, round: 2, place: 1 });
  store.totals.saveContribution(JOB, contribution);
  store.totals.saveContribution('another job', { ...contribution, place: 4 });
  expect(store.totals.jobs()).toEqual([{ ...totals, contribution }]);
  expect([store.totals.hasWork(JOB), store.totals.hasWork('another job')]).toEqual([true, false]);
});

test('the work of an earlier key of the home does not count for the present key', () => {
  store.setKey('peer a');
  save(1);
  save(2);
  store.totals.saveContribution(JOB, { round: 1, place: 1, contributors: 1, tokens: 1, totalTokens: 1 });
  store.setKey('peer b');
  expect([store.totals.jobs(), store.updates(9), store.totals.hasWork(JOB)]).toEqual([[], [], false]);
  // The node sends no update that another key has signed, and trains no round twice.
  expect(store.history(JOB)).toEqual({ lastRound: 2, pending: [] });
  save(3);
  store.saveReceipt(JOB, 3, { code: 'accepted', detail: '' });
  expect(store.totals.jobs()).toMatchObject([{ accepted: 1, tokens: 300, contribution: null }]);
  store.setKey('peer a');
  expect(store.updates(9).map(({ round }) => round)).toEqual([2, 1]);
  expect(store.history(JOB).pending).toHaveLength(2);
});

test('the newest updates come first, also after the clock was ahead for a while', () => {
  save(1, {}, { at: 10 });
  save(2, {}, { at: 9000 });
  save(1, {}, { at: 9001, job: 'another job' });
  save(3, {}, { at: 30 });
  expect(store.updates(9).map(({ job, round }) => [job === JOB, round])).toEqual([
    [true, 3],
    [false, 1],
    [true, 2],
    [true, 1],
  ]);
  expect(store.totals.jobs().map(({ job }) => job)).toEqual([JOB, 'another job']);
});

test('the traffic of a month adds up', () => {
  store.totals.addTraffic('2026-11', { sent: 1, received: 2 });
  store.totals.addTraffic('2026-11', { sent: 10, received: 20 });
  store.totals.addTraffic('2026-12', { sent: 5, received: 5 });
  expect(store.totals.traffic('2026-11')).toEqual({ sent: 11, received: 22 });
  expect(store.totals.traffic('2027-01')).toEqual({ sent: 0, received: 0 });
});
