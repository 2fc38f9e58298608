import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { FileCheckpointFolders } from '../../../../coordinator/record/checkpoint-folders.ts';
import { markJob } from '../../../../coordinator/record/new-job.ts';
import { requireNewestStore } from '../../../../coordinator/recovery/newer-folders.ts';
import { Store } from '../../../../coordinator/store/store.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { ScriptedPeer } from '../scripted-peer.ts';
import { COORDINATOR, World } from '../world.ts';

const options = { self: COORDINATOR.peerId, startAnew: false, now: 0 };
const log = silentLogger;

/** Returns a home with the checkpoint folders of a job of three rounds, and the job's name. */
async function trained() {
  const home = await temporaryFolder();
  const world = new World({ rounds: { count: 3, minPeers: 1, localSteps: 1 } });
  const envelopes: [number, Uint8Array][] = [];
  world.laidOut = ({ checkpoint, envelope }) => envelopes.push([checkpoint.round, envelope]);
  await world.start();
  const finished = (): boolean => world.run.driver.state.phase === 'finished';
  await new ScriptedPeer(1, world).work(() => 0.01, finished);
  await world.until(finished, 'the end of the job');
  const { name } = world.toy.manifest;
  for (const [round, envelope] of envelopes) {
    const folder = join(home, 'checkpoints', name, String(round).padStart(4, '0'));
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'checkpoint.cbor'), envelope);
  }
  return { home, world, name };
}

/** Returns the store as it was after a round. */
function rolledBackTo(round: number, { store, toy }: World) {
  const kept = store.rounds.checkpoints(toy.job).filter((one) => one.round <= round);
  return {
    jobs: store.jobs,
    rounds: {
      newestCheckpoints: () => kept.slice(-1),
      checkpointOf: (_job: string, digest: string) => kept.find((one) => one.digest === digest) ?? null,
    },
  } as unknown as World['store'];
}

it('accepts a database that is as new as the folders, or one folder behind them', async () => {
  const { home, world } = await trained();
  await requireNewestStore(home, options, { store: world.store, log });
  await requireNewestStore(home, options, { store: rolledBackTo(2, world), log });
});

it('refuses a database that is older than the folders, or that lacks a job', async () => {
  const { home, world, name } = await trained();
  const older = requireNewestStore(home, options, { store: rolledBackTo(1, world), log });
  await expect(older).rejects.toEqual(
    withCode('STORE_ROLLED_BACK', { newer: [{ job: name, round: 3, known: 1 }] }),
  );
  const { store } = new World();
  const empty = requireNewestStore(home, options, { store, log });
  await expect(empty).rejects.toEqual(
    withCode('STORE_ROLLED_BACK', { newer: [{ job: name, round: 3, known: null }] }),
  );
});

it('sets the newer folders aside if the operator says so', async () => {
  const { home, world, name } = await trained();
  await requireNewestStore(home, { ...options, startAnew: true }, { store: rolledBackTo(1, world), log });
  expect(await readdir(join(home, 'checkpoints', name))).toEqual(['0000', '0001']);
  await requireNewestStore(home, options, { store: rolledBackTo(1, world), log });
});

/** Creates a home with a database of one job without a merged checkpoint, as a killed coordinator leaves it. */
async function created() {
  const home = await temporaryFolder();
  const world = new World();
  await world.start();
  const store = new Store(join(home, 'coordinator.sqlite'));
  const [stored] = world.store.jobs.all();
  store.jobs.insert(stored!, new Uint8Array(1));
  const folders = new FileCheckpointFolders({ home }, { blobs: null as never });
  const { name } = stored!;
  await mkdir(join(home, 'checkpoints', name, '0000'), { recursive: true });
  return { home, store, folders, stored: stored!, name };
}

it('refuses a database that lost a job because a bit of its write-ahead log was flipped', async () => {
  const { home, store, folders, stored, name } = await created();
  await markJob(stored, { folders, log });
  await requireNewestStore(home, options, { store, log });
  const killed = await temporaryFolder();
  await cp(home, killed, { recursive: true });
  store.close();
  const path = join(killed, 'coordinator.sqlite-wal');
  const wal = await readFile(path);
  wal[wal.indexOf(stored.job)]! ^= 1;
  await writeFile(path, wal);

  const damaged = new Store(join(killed, 'coordinator.sqlite'));
  expect(damaged.jobs.all()).toEqual([]);
  const refused = requireNewestStore(killed, options, { store: damaged, log });
  await expect(refused).rejects.toEqual(
    withCode('STORE_ROLLED_BACK', { newer: [{ job: name, round: 0, known: null }] }),
  );
  await requireNewestStore(killed, { ...options, startAnew: true }, { store: damaged, log });
  await requireNewestStore(killed, options, { store: damaged, log });
  damaged.close();
});

it('accepts the folder of a job whose creation was interrupted, because such a folder has no manifest', async () => {
  const { home, store } = await created();
  store.close();
  const { store: empty } = new World();
  await requireNewestStore(home, options, { store: empty, log });
});
