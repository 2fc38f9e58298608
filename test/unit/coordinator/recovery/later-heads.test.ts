import { expect, it } from 'vitest';
import type { CoordinatorDeps } from '../../../../coordinator/context.ts';
import { LaterHeads } from '../../../../coordinator/recovery/later-heads.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { withCode } from '../../../utils/codes.ts';
import { noFolders } from '../../../utils/virtual/no-folders.ts';
import { training } from '../scripted-peer.ts';
import { COORDINATOR, World } from '../world.ts';

const title =
  'stops a running job at the proof of a later head, and takes no orders until the head is adopted';

it.each([0, 1])(`${title} (%i failed attempts)`, async (failures) => {
  const world = new World({ rounds: { minPeers: 1 } });
  // The second member is not connected, so the coordinator waits for it and makes several attempts.
  await training(world, 2);
  const { job } = world.toy;
  const { run, clock } = world;
  const own = verifyMessage('head', world.store.jobs.head(job)!).message;
  const head = signMessage('head', { ...own, sequence: own.sequence + 5 }, COORDINATOR);
  const restarts: boolean[] = [];
  const network = {
    signer: COORDINATOR,
    peers: () => [],
    networkOf: (peer: string) => peer,
    request: async () => ({ head, checkpoints: [], receipts: [], settings: [] }),
    fetchBlob: async () => {},
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
    restart: async (_, write) => {
      restarts.push(write === null);
      if (write !== null && restarts.length <= 1 + failures) throw new Error('the records were not written');
    },
  });
  Object.assign(run.context, { isBehind: () => laterHeads.isBehind(job) });
  laterHeads.claims.note(run, run.members.list.all()[0]!.peer, {
    term: own.term,
    sequence: own.sequence + 5,
  });
  await world.until(() => laterHeads.isBehind(job), 'the proof');
  expect(restarts).toEqual([true]);
  expect(() => run.operate({ type: 'pause', reason: '' })).toThrow(withCode('JOB_BEHIND'));
  expect(() => run.change({ learningRate: 1e-4 }, { reason: '' })).toThrow(withCode('JOB_BEHIND'));
  await world.until(() => !laterHeads.isBehind(job), 'the adoption');
  expect(restarts).toEqual([true, ...Array(failures).fill(false), false]);
  run.operate({ type: 'pause', reason: '' });
});
