import { join } from 'node:path';
import { expect } from 'vitest';
import { silentLogger } from '../../monitor/logs/log.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { temporaryFolder } from '../utils/folder.ts';
import { virtualEnvironment } from '../utils/virtual/environment.ts';
import { toyJob } from '../utils/virtual/toy-job.ts';
import { VirtualNode } from '../utils/virtual/virtual-node.ts';
import { COORDINATOR, VirtualCoordinator } from './virtual-coordinator.ts';

export const ROUNDS = 8;
export const DEADLINE_MS = 10 * 60_000;

/** A coordinator with three nodes. Its database is a file. */
export async function swarm(seed: number, { rounds = ROUNDS, minPeers = 2 } = {}) {
  const { clock, network, random } = virtualEnvironment(seed, { delayMs: [1, 50] });
  const environment = { clock, network, random, log: silentLogger };
  const toy = toyJob(COORDINATOR, { rounds: { count: rounds, minPeers, maxSeconds: 60, localSteps: 4 } });
  const storePath = join(await temporaryFolder(), 'coordinator.sqlite');
  const retention = { checkpoints: 2, rounds: 3 };
  const coordinator = new VirtualCoordinator({ toy, retention, storePath }, environment);
  const node = (number: number): VirtualNode =>
    new VirtualNode(
      { number, coordinator: COORDINATOR.peerId, layout: toy.layout, msPerStep: 200 + 50 * number },
      environment,
    );
  const nodes = [1, 2, 3].map(node);
  coordinator.start();
  for (const one of nodes) one.start();
  const { job } = toy;
  const newest = (): number => coordinator.store.rounds.newestCheckpoints(job, 1)[0]?.round ?? 0;
  const reach = async (round: number): Promise<void> => {
    expect(await clock.run(() => newest() >= round, DEADLINE_MS), `round ${round}`).toBe(true);
  };
  const inPhase = async (phase: string): Promise<void> => {
    expect(await clock.run(() => coordinator.phase === phase, DEADLINE_MS), phase).toBe(true);
  };
  const pass = async (ms: number): Promise<void> => void (await clock.run(() => false, ms));
  const events = () => coordinator.store.events.after(job, 0, 10_000);
  /**
   * Backs the coordinator up, lets the swarm run on, kills the coordinator, and restores the backup. The caller starts
   * the coordinator.
   * @param runOn what the swarm does between backup and kill. A number stands for: the nodes fetch the checkpoint of
   * that round
   * @returns the round of the newest checkpoint at the kill
   */
  const restoreBackup = async (runOn: number | (() => Promise<unknown>)): Promise<number> => {
    const restore = coordinator.backUp();
    if (typeof runOn === 'function') await runOn();
    else {
      await reach(runOn);
      await pass(1_000);
    }
    coordinator.crash();
    const lost = newest();
    restore();
    return lost;
  };
  const catchUp = async (): Promise<void> => {
    const isBack = () => events().some(({ type }) => type === 'caught-up');
    expect(await clock.run(isBack, 60_000), 'it catches up within a minute').toBe(true);
  };
  const end = async (): Promise<void> => {
    const isOver = () => coordinator.finished && nodes.every(({ alive, done }) => !alive || done);
    const ended = await clock.run(isOver, DEADLINE_MS);
    const views = nodes.map(({ swarmNode }) => swarmNode.view().state.reason);
    expect(ended, `the job ends (${coordinator.phase}; ${views.join('; ')})`).toBe(true);
    await pass(2_000);
  };
  const steps = { reach, inPhase, pass, restoreBackup, catchUp, end };
  return { clock, network, random, coordinator, nodes, node, job, newest, events, ...steps };
}

export type Swarm = Awaited<ReturnType<typeof swarm>>;

/**
 * Checks that the chain has no gap, that no update is merged twice, and that each node knows which of its updates were
 * merged.
 */
export function checkHistory({ coordinator, nodes, job }: Swarm): void {
  let parent: string | null = null;
  const merged: string[] = [];
  for (const { envelope, digest } of coordinator.store.rounds.checkpoints(job)) {
    const { message } = verifyMessage('checkpoint', envelope);
    expect(message.parent, `parent of round ${message.round}`).toBe(parent);
    parent = digest;
    merged.push(...message.contributors.map(({ peer, round }) => `${peer} ${round}`));
  }
  expect(new Set(merged).size).toBe(merged.length);
  for (const node of nodes) {
    for (const { round, outcome } of node.store.updates(1_000)) {
      const isMerged = merged.includes(`${node.peer} ${round}`);
      expect(outcome === 'counted', `${node.peer} in round ${round} is ${outcome}`).toBe(isMerged);
    }
  }
}
