import { describe, expect, it } from 'vitest';
import type { CoordinatorDeps } from '../../../../coordinator/context.ts';
import { LaterHeads } from '../../../../coordinator/recovery/later-heads.ts';
import { needsOperator } from '../../../../coordinator/round/job-phase.ts';
import { type Signer, signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { recordingLog, type TestHost } from '../../../utils/swarm/hosts.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { noFolders } from '../../../utils/virtual/no-folders.ts';
import { type ScriptedPeer, training } from '../scripted-peer.ts';
import { COORDINATOR, World } from '../world.ts';

it('pauses a job that another copy of the coordinator has taken over, so that it needs its operator', async () => {
  const world = new World({ rounds: { minPeers: 1 } });
  await training(world, 1);
  const { job } = world.toy;
  const own = verifyMessage('head', world.store.jobs.head(job)!).message;
  const head = signMessage('head', { ...own, term: own.term + 1 }, COORDINATOR);
  const logged: TestHost['logged'] = [];
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
    log: recordingLog(logged),
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
  laterHeads.claims.note(world.run, 'other', { term: own.term + 1, sequence: own.sequence });
  await laterHeads.claims.idle();
  expect(logged.filter(({ action }) => action === 'another-copy-runs')).toHaveLength(1);
  expect(() => world.kill()).toThrow();
  await world.start();
  expect(needsOperator(state())).toBe(true);
});

describe('a copy of the coordinator that learns from a heartbeat of a head that it has not signed', () => {
  /** Starts a job with a node that follows a head of the next term, signed with the given key. */
  async function following(
    signer: Signer,
  ): Promise<{ world: World; peer: ScriptedPeer; asked: () => number }> {
    const world = new World({ rounds: { minPeers: 1 } });
    const { peers } = await training(world, 1);
    const peer = peers[0]!;
    const own = verifyMessage('head', world.store.jobs.head(world.toy.job)!).message;
    const head = signMessage('head', { ...own, term: own.term + 1 }, signer);
    let asked = 0;
    peer.host.handle('recall', async () => {
      asked++;
      return { head, checkpoints: [], receipts: [], settings: [] };
    });
    const { sequence } = own;
    await peer.heartbeat('awaiting', { known: { term: own.term, sequence } });
    expect(asked).toBe(0);
    await peer.heartbeat('awaiting', { known: { term: own.term + 1, sequence } });
    return { world, peer, asked: () => asked };
  }

  it('pauses its job, so that its operator learns of the other copy', async () => {
    const { world } = await following(COORDINATOR);
    const state = () => world.run.driver.state;
    await world.until(() => state().phase === 'paused', 'the pause');
    expect(needsOperator(state())).toBe(true);
  });

  it('continues if the node cannot prove the head, and asks it again only after some time', async () => {
    const { world, peer, asked } = await following(signerOf(1));
    await world.until(() => asked() === 1, 'the request for the head');
    for (let i = 0; i < 3; i++) await peer.heartbeat('awaiting', { known: { term: 9, sequence: 9 } });
    expect(asked()).toBe(1);
    expect(world.run.driver.state.phase).toBe('training');
  });
});
