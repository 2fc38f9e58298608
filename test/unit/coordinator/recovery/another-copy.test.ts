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

/** Starts a job whose nodes prove a head of the next term, which another copy of the coordinator has signed. */
async function takenOver() {
  const world = new World({ rounds: { minPeers: 1 } });
  await training(world, 1);
  const { job } = world.toy;
  const own = verifyMessage('head', world.store.jobs.head(job)!).message;
  const term = own.term + 1;
  const head = signMessage('head', { ...own, term }, COORDINATOR);
  const logged: TestHost['logged'] = [];
  const network = {
    signer: COORDINATOR,
    peers: () => [],
    networkOf: (peer: string) => peer,
    request: async () => ({ head, checkpoints: [], receipts: [], settings: [] }),
  };
  const { claims } = new LaterHeads({
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
  const prove = async (peer: string): Promise<void> => {
    claims.note(world.run, peer, { term, sequence: own.sequence });
    await claims.idle();
  };
  const told = (): number => logged.filter(({ action }) => action === 'another-copy-runs').length;
  return { world, term, prove, told, state: () => world.run.driver.state };
}

it('pauses a job that another copy of the coordinator has taken over, so that it needs its operator', async () => {
  const { world, term, prove, told, state } = await takenOver();
  await prove('peer');
  expect(state()).toMatchObject({
    phase: 'paused',
    pauseCause: 'problem',
    reason: expect.stringContaining(`term ${term}`),
  });
  expect(needsOperator(state())).toBe(true);
  await prove('other');
  expect(told()).toBe(1);
  expect(() => world.kill()).toThrow();
  await world.start();
  expect(needsOperator(state())).toBe(true);
});

it.each(['operator', 'problem'] as const)(
  'tells once of another copy that has taken over a job which is paused already: %s',
  async (cause) => {
    const { world, prove, told, state } = await takenOver();
    world.run.driver.dispatch({ type: 'pause', reason: 'an earlier reason', cause });
    await prove('peer');
    await prove('other');
    expect(state()).toMatchObject({ pauseCause: cause, reason: 'an earlier reason' });
    expect(told()).toBe(1);
    world.run.operate({ type: 'resume' });
    await prove('third');
    expect(needsOperator(state())).toBe(true);
    expect(told()).toBe(2);
  },
);

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
