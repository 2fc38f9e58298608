import { expect, it } from 'vitest';
import type { CoordinatorDeps } from '../../../../coordinator/context.ts';
import { LaterHeads } from '../../../../coordinator/recovery/later-heads.ts';
import { needsOperator } from '../../../../coordinator/round/job-phase.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { noFolders } from '../../../utils/virtual/no-folders.ts';
import { training } from '../scripted-peer.ts';
import { COORDINATOR, World } from '../world.ts';

it('pauses a job that another copy of the coordinator has taken over, so that it needs its operator', async () => {
  const world = new World({ rounds: { minPeers: 1 } });
  await training(world, 1);
  const { job } = world.toy;
  const own = verifyMessage('head', world.store.jobs.head(job)!).message;
  const head = signMessage('head', { ...own, term: own.term + 1 }, COORDINATOR);
  const network = {
    signer: COORDINATOR,
    peers: () => [],
    networkOf: (peer: string) => peer,
    request: async () => ({ head, checkpoints: [], receipts: [], settings: [] }),
  };
  const laterHeads = new LaterHeads({
    network: network as unknown as CoordinatorDeps['network'],
    blobs: {} as CoordinatorDeps['blobs'],
    folders: noFolders,
    store: world.store,
    clock: world.clock,
    log: silentLogger,
    signal: new AbortController().signal,
    runs: new Map([[job, world.run]]),
    restart: async () => expect.fail('the job must not be started again'),
  });
  const state = () => world.run.driver.state;
  laterHeads.claims.note(world.run, 'peer', { term: own.term + 1, sequence: own.sequence });
  await world.until(() => state().phase === 'paused', 'the pause');
  expect(state()).toMatchObject({
    pauseCause: 'problem',
    reason: expect.stringContaining(`term ${own.term + 1}`),
  });
  expect(needsOperator(state())).toBe(true);
  expect(() => world.kill()).toThrow();
  await world.start();
  expect(needsOperator(state())).toBe(true);
});
