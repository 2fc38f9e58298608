import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, test } from 'vitest';
import { SCHEMA } from '../../../../coordinator/store/schema/schema.ts';
import { Store, type StoredJob } from '../../../../coordinator/store/store.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { STORED_JOB } from '../../../utils/swarm/stored-job.ts';

/** Extended result code of SQLite: a second row with the same primary key. */
const SQLITE_CONSTRAINT_PRIMARYKEY = 1555;

const JOB: StoredJob = { ...STORED_JOB, admission: { kind: 'peers', peers: ['p'] } };

async function open(): Promise<{ store: Store; path: string }> {
  const path = join(await temporaryFolder(), 'coordinator.sqlite');
  return { store: new Store(path), path };
}

describe('Store', () => {
  test('returns every row as it was written', async () => {
    const { store, path } = await open();
    const ending = { phase: 'paused', reason: 'lunch', cause: 'operator' } as const;
    store.transaction(() => {
      store.jobs.insert(JOB, Uint8Array.of(9, 9));
      store.jobs.putHead(JOB.job, 1, Uint8Array.of(1));
      store.jobs.putHead(JOB.job, 2, Uint8Array.of(2));
      store.events.append(JOB.job, 5, { type: 'resumed' });
    });
    store.jobs.setEnding(JOB.job, ending);
    store.jobs.setPauseCause(JOB.job, 'problem');
    store.close();
    const again = new Store(path);
    expect(again.jobs.all()).toEqual([{ ...JOB, ending, pauseCause: 'problem' }]);
    expect(again.jobs.heldOut(JOB.job)).toEqual(Uint8Array.of(9, 9));
    expect(again.jobs.head(JOB.job)).toEqual(Uint8Array.of(2));
    expect(again.events.append(JOB.job, 6, { type: 'resumed' }).sequence).toBe(2);
    again.close();
  });

  test('writes nothing of a failed transaction, nested ones included', async () => {
    const { store } = await open();
    const failure = new Error('power');
    const fail = (): void =>
      store.transaction(() => {
        store.transaction(() => store.jobs.insert(JOB, Uint8Array.of(0)));
        throw failure;
      });
    expect(fail).toThrow(failure);
    expect(store.jobs.all()).toEqual([]);
    store.transaction(() => store.jobs.insert(JOB, Uint8Array.of(0)));
    expect(store.jobs.all()).toHaveLength(1);
    store.close();
  });

  test('has one update per node and round', async () => {
    const { store } = await open();
    store.jobs.insert(JOB, Uint8Array.of(0));
    const update = {
      round: 1,
      peer: 'p',
      digest: 'd',
      size: 1,
      preset: 'dense',
      tokens: 1,
      lossLast: 1,
      evidence: Uint8Array.of(1),
      arrivedAt: 1,
      late: false,
    } as const;
    store.updates.insert(JOB.job, update);
    expect(() => store.updates.insert(JOB.job, { ...update, digest: 'e' })).toThrow(
      expect.objectContaining({ errcode: SQLITE_CONSTRAINT_PRIMARYKEY }),
    );
    // Two merges select updates, but only one of them gets the late update.
    store.updates.select(JOB.job, 1, 0, 10);
    store.updates.select(JOB.job, 2, 0, 10);
    expect(store.updates.selected(JOB.job, 1)).toHaveLength(1);
    expect(store.updates.selected(JOB.job, 2)).toEqual([]);
    // A merge selects at most as many updates as a checkpoint can name, and updates of its own round before late
    // updates. The other updates wait for the next merge.
    for (const [round, peer] of [
      [3, 'late'],
      [4, 'a'],
      [4, 'b'],
    ] as const) {
      store.updates.insert(JOB.job, { ...update, round, peer });
    }
    store.updates.select(JOB.job, 4, 2, 2);
    expect(store.updates.selected(JOB.job, 4).map(({ peer }) => peer)).toEqual(['a', 'b']);
    store.updates.select(JOB.job, 5, 3, 2);
    expect(store.updates.selected(JOB.job, 5).map(({ peer }) => peer)).toEqual(['late']);
    store.close();
  });

  test('refuses a database of another release, and says which versions differ', async () => {
    const path = join(await temporaryFolder(), 'other.sqlite');
    for (const [found, code] of [
      [SCHEMA.version - 1, 'STORE_OLDER'],
      [SCHEMA.version + 1, 'STORE_NEWER'],
    ] as const) {
      const db = new DatabaseSync(path);
      db.exec(`PRAGMA user_version = ${found}`);
      db.close();
      expect(() => new Store(path)).toThrow(
        expect.objectContaining({ code, values: { path, found, known: SCHEMA.version } }),
      );
    }
  });

  test('lists a blob as unused after its last use was released', async () => {
    const { store } = await open();
    const other = { ...JOB, job: 'bb'.repeat(32), name: 'other' };
    for (const job of [JOB, other]) {
      store.jobs.insert(job, Uint8Array.of(0));
      store.blobs.use(job.job, 'adapter', 0, ['shared']);
    }
    store.blobs.markUnused('shared');
    store.blobs.markUnused('written');
    store.blobs.release(JOB.job, 'adapter', 0, 5);
    expect(store.blobs.unused()).toEqual(['written']);
    store.blobs.release(other.job, 'adapter', 1, 5);
    expect(store.blobs.unused()).toEqual(['written']);
    store.blobs.release(other.job, 'adapter', 0, 0);
    expect(store.blobs.unused()).toEqual(['shared', 'written']);
    store.blobs.forget('shared');
    store.blobs.use(JOB.job, 'update', 1, ['written']);
    expect(store.blobs.unused()).toEqual([]);
    store.close();
  });

  test('loses no finished transaction in a kill', async () => {
    const { store, path } = await open();
    store.jobs.insert(JOB, Uint8Array.of(0));
    store.close();
    const module = new URL('../../../../coordinator/store/store.ts', import.meta.url).href;
    const script = `
      const { Store } = await import(${JSON.stringify(module)});
      const store = new Store(${JSON.stringify(path)});
      for (let i = 1; ; i++) {
        store.transaction(() => {
          store.events.append(${JSON.stringify(JOB.job)}, i, { type: 'resumed' });
          store.events.append(${JSON.stringify(JOB.job)}, i, { type: 'resumed' });
        });
        process.stdout.write(i + '\\n');
      }`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = 0;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said = Number(text.trim().split('\n').at(-1));
      if (said > 50) child.kill('SIGKILL');
    });
    await once(child, 'close');
    const again = new Store(path);
    const events = again.events.after(JOB.job, 0, 1_000_000);
    expect(events.length % 2, 'whole transactions').toBe(0);
    expect(events.length).toBeGreaterThanOrEqual(2 * said);
    again.close();
  });
});
