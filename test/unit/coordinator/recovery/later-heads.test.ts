import { expect, it } from 'vitest';
import type { CoordinatorDeps } from '../../../../coordinator/context.ts';
import { LaterHeads } from '../../../../coordinator/recovery/later-heads.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { noFolders } from '../../../utils/virtual/no-folders.ts';
import { training } from '../scripted-peer.ts';
import { COORDINATOR, World } from '../world.ts';

/** A job with a node that has a later head than the coordinator. `restart` replaces the coordinator's own restart. */
async function behind(
  options: { members: number },
  { restart, fetchBlob }: Pick<LaterHeadsDeps, 'restart'> & Pick<CoordinatorDeps['network'], 'fetchBlob'>,
) {
  const world = new World({ rounds: { minPeers: 1 } });
  await training(world, options.members);
  const { job } = world.toy;
  const { run, clock } = world;
  const own = verifyMessage('head', world.store.jobs.head(job)!).message;
  const later = { term: own.term, sequence: own.sequence + 5 };
  const head = signMessage('head', { ...own, ...later }, COORDINATOR);
  const network = {
    signer: COORDINATOR,
    peers: () => [],
    networkOf: (peer: string) => peer,
    request: async () => ({ head, checkpoints: [], receipts: [], settings: [] }),
    fetchBlob,
  };
  const laterHeads = new LaterHeads({
    network: network as unknown as CoordinatorDeps['network'],
    blobs: {} as CoordinatorDeps['blobs'],
    folders: noFolders,
    store: world.store,
    clock,
    log: silentLogger,
    signal: new AbortController().signal,
    runs: new Map([[job, run]]),
    restart,
  });
  Object.assign(run.context, {
    isBehind: () => laterHeads.isBehind(job),
    isStopping: () => laterHeads.isStopping(job),
    stopBehind: (reason: string) => laterHeads.stop(run, reason),
  });
  laterHeads.claims.note(run, run.members.list.all()[0]!.peer, later);
  await world.until(() => laterHeads.isBehind(job), 'the proof');
  return { world, run, job, clock, laterHeads };
}

type LaterHeadsDeps = ConstructorParameters<typeof LaterHeads>[0];

const title =
  'stops a running job at the proof of a later head, and takes no orders until the head is adopted';

it.each([0, 1])(`${title} (%i failed attempts)`, async (failures) => {
  const restarts: boolean[] = [];
  const restart: LaterHeadsDeps['restart'] = async (_, write) => {
    restarts.push(write === null);
    if (write !== null && restarts.length <= 1 + failures) throw new Error('the records were not written');
  };
  // The second member is not connected, so the coordinator waits for it and makes several attempts.
  const { world, run, job, laterHeads } = await behind(
    { members: 2 },
    { restart, fetchBlob: async () => {} },
  );
  expect(restarts).toEqual([true]);
  expect(() => run.operate({ type: 'pause', reason: '' })).toThrow(withCode('JOB_BEHIND'));
  expect(() => run.change({ learningRate: 1e-4 }, { reason: '' })).toThrow(withCode('JOB_BEHIND'));
  await world.until(() => !laterHeads.isBehind(job), 'the adoption');
  expect(restarts).toEqual([true, ...Array(failures).fill(false), false]);
  run.operate({ type: 'pause', reason: '' });
});

it.each(['a fetch that never ends', 'no attempt that succeeds'])(
  'stops a job that is behind, with %s',
  async (what) => {
    const isHanging = what === 'a fetch that never ends';
    let written = 0;
    const { world, run, job, clock, laterHeads } = await behind(
      { members: 1 },
      {
        restart: async (_, write) => {
          if (write === null) return;
          if (!isHanging && written++ < 2) throw new Error('the records were not written');
          world.store.transaction(write);
        },
        fetchBlob: (_, { signal }) => {
          const { promise, reject } = Promise.withResolvers<void>();
          if (!isHanging) return Promise.resolve();
          signal.addEventListener('abort', () => reject(signal.reason));
          return promise;
        },
      },
    );
    const orderedAt = clock.monotonic();
    if (!isHanging) await world.until(() => written === 1, 'the failed attempt');
    run.operate({ type: 'stop', reason: 'a test' });
    expect(laterHeads.isStopping(job)).toBe(true);
    expect(world.store.jobs.stopOrders()).toMatchObject([{ job, reason: 'a test' }]);
    expect(() => run.operate({ type: 'pause', reason: '' })).toThrow(withCode('JOB_BEHIND'));
    await world.until(() => run.driver.state.phase === 'finished', 'the end');
    expect(clock.monotonic() - orderedAt).toBeLessThan(70_000);
    expect([laterHeads.isBehind(job), laterHeads.isStopping(job)]).toEqual([false, false]);
    const caughtUp = world.store.events.after(job, 0, 1000).find(({ type }) => type === 'caught-up');
    expect(caughtUp).toMatchObject({ checkpoints: 0, term: 2 });
  },
);
