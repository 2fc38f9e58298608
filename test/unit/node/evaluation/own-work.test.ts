import { expect, test } from 'vitest';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { virtualEnvironment } from '../../../utils/virtual/environment.ts';
import { toyJob } from '../../../utils/virtual/toy-job.ts';
import { addressOf } from '../../../utils/virtual/virtual-network.ts';
import { VirtualNode } from '../../../utils/virtual/virtual-node.ts';
import { ScriptedCoordinator } from '../scripted-coordinator.ts';

const { signal } = new AbortController();

/** Sets up a node that may evaluate for one coordinator, and trains for another one. */
async function setUp() {
  const { clock, network, random } = virtualEnvironment(1, { start: 1_000_000 });
  const environment = { clock, network, random, log: silentLogger };
  const signers = [signerOf(200), signerOf(201)] as const;
  const [tasks, training] = signers.map((signer, i) => {
    const toy = toyJob(signer, { rounds: { count: 20 + i } });
    return { toy, signer, coordinator: new ScriptedCoordinator({ toy, signer }, environment) };
  }) as [Side, Side];
  interface Side {
    toy: ReturnType<typeof toyJob>;
    signer: (typeof signers)[number];
    coordinator: ScriptedCoordinator;
  }
  const node = new VirtualNode(
    {
      number: 1,
      coordinator: tasks.signer.peerId,
      layout: tasks.toy.layout,
      msPerStep: 1000,
      more: [{ addresses: [addressOf(training.signer.peerId)] }],
      // The evaluation runs until the node aborts it.
      answerer: {
        answer: (_questions, options) =>
          new Promise((_, reject) => {
            options.signal.addEventListener('abort', () => reject(options.signal.reason));
          }),
      },
    },
    environment,
  );
  tasks.coordinator.role = 'operator';
  node.start();
  const isReady = (): boolean => node.nodes.all.every((one) => one.view().state.phase === 'awaiting');
  await tasks.coordinator.open(1, []);
  await training.coordinator.open(1, []);
  expect(await clock.run(isReady, 60_000)).toBe(true);
  const { job, manifest } = tasks.toy;
  const { initial } = manifest.adapter;
  // Any blob of the job can stand for the questions, because nothing decodes them in this test.
  const { digest, size } = manifest.data.shards[0]!;
  const body = { job, adapter: initial, questions: { digest, size }, baseBits: 32 } as const;
  const asked = async <T>(answer: Promise<T>): Promise<unknown> => {
    const result = answer.catch((error: unknown) => error);
    await clock.run(() => false, 1000);
    return result;
  };
  const { host } = tasks.coordinator;
  const wanted = { job, adapter: initial.digest, questions: digest };
  return {
    node,
    clock,
    start: () => asked(host.request(node.peer, 'evaluate', body, { signal })),
    state: () => asked(host.request(node.peer, 'evaluation', wanted, { signal })),
    startOfOther: () => asked(training.coordinator.host.request(node.peer, 'evaluate', body, { signal })),
    train: async () => {
      await training.coordinator.open(2, [node.peer]);
      const isTraining = (): boolean => node.nodes.all[1]!.view().state.phase === 'training';
      expect(await clock.run(isTraining, 60_000)).toBe(true);
    },
  };
}

test('an evaluation ends when the node begins to train for another coordinator', async () => {
  const { start, state, train } = await setUp();
  expect(await start()).toEqual({});
  expect(await state()).toMatchObject({ state: 'running' });
  await train();
  expect(await state()).toMatchObject({ state: 'failed' });
  expect(await start()).toMatchObject({ code: 'RPC_REFUSED', values: { code: 'EVALUATION_BUSY' } });
});

test('an evaluation ends when the owner pauses the node', async () => {
  const { node, start, state } = await setUp();
  await start();
  node.pauses.set({ reason: 'paused', text: 'paused by its owner', until: null });
  expect(await state()).toMatchObject({ state: 'failed' });
  expect(await start()).toMatchObject({ values: { code: 'EVALUATION_BUSY' } });
});

test('a coordinator cannot start an evaluation in the job of another one', async () => {
  const { startOfOther } = await setUp();
  expect(await startOfOther()).toMatchObject({ values: { code: 'NOT_EVALUATING' } });
});
