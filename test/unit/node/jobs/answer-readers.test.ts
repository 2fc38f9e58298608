import { expect, test } from 'vitest';
import { answerReaders } from '../../../../node/jobs/answer-readers.ts';
import { Pauses } from '../../../../node/limits/pauses.ts';
import { NodeStore } from '../../../../node/store/node-store.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { virtualEnvironment } from '../../../utils/virtual/environment.ts';
import { MemoryBlobs, MemoryDisk } from '../../../utils/virtual/memory-blobs.ts';
import { addressOf } from '../../../utils/virtual/virtual-network.ts';
import { JOB } from '../heads.ts';

/** A node with an open job, and hosts that ask it. */
function setUp() {
  const { clock, network, random } = virtualEnvironment(1, { start: 1_000_000, delayMs: [1, 2] });
  const hostOf = (number: number, address = `address-${number}`) => {
    const blobs = new MemoryBlobs({ disk: new MemoryDisk(), clock, random, isAlive: () => true });
    const host = network.host({ signer: signerOf(number), blobs, isAlive: () => true });
    host.address = address;
    return host;
  };
  const node = hostOf(1);
  const store = NodeStore.open(':memory:');
  const key = { id: 1, key: new Uint8Array(32) };
  store.keptJobs.keep(
    { job: JOB, coordinator: signerOf(9).peerId, isOpen: true, key },
    { manifest: new Uint8Array(3), at: 1 },
  );
  const pauses = new Pauses();
  const allowed = { jobs: [JOB] };
  const mayRead = (_peer: string, job: string): boolean => allowed.jobs.includes(job);
  const stop = answerReaders({ network: node, store, clock, pauses, mayRead });
  const { signal } = new AbortController();
  const connected = async (host: ReturnType<typeof hostOf>) => {
    await run(host.connect(addressOf(node.peer), { signal }));
    return host;
  };
  const run = async <T>(work: Promise<T>): Promise<T> => {
    let isOver = false;
    const end = (): void => {
      isOver = true;
    };
    work.then(end, end);
    expect(await clock.run(() => isOver, 60_000)).toBe(true);
    return work;
  };
  const ask = (host: ReturnType<typeof hostOf>, job = JOB) =>
    host.request(node.peer, 'record', { job, ordinal: 0, first: 0 }, { signal });
  return { clock, hostOf, connected, run, ask, pauses, allowed, stop };
}

test('all readers share one quota, in which addresses take turns', async () => {
  const { clock, hostOf, connected, run, ask } = setUp();
  const reader = await connected(hostOf(2));
  const attackers = [];
  for (let number = 10; number < 40; number++) attackers.push(await connected(hostOf(number, 'one address')));
  let answers = 0;
  let isOver = false;
  for (const attacker of attackers) {
    const flood = async (): Promise<void> => {
      while (!isOver) {
        await ask(attacker).then(
          () => answers++,
          (error) => expect(error.values.code).toBe('RPC_RATE_LIMITED'),
        );
      }
    };
    void flood();
  }
  const before = clock.now();
  await clock.run(() => false, 20_000);
  const asked = clock.now();
  for (let call = 0; call < 10; call++) await run(ask(reader));
  // The node answers six calls per second. While the reader calls, half of these answers are for the reader.
  expect(clock.now() - asked).toBeLessThan(10 * 3 * 170);
  expect(answers).toBeLessThanOrEqual(60 + (6 * (clock.now() - before)) / 1000 + 1);
  isOver = true;
  await clock.run(() => false, 20_000);
});

test('a call that waited is refused if the job can no longer be read', async () => {
  const { hostOf, connected, run, ask, allowed } = setUp();
  const reader = await connected(hostOf(2));
  for (let call = 0; call < 60; call++) await run(ask(reader));
  const waiting = ask(reader);
  // The refusal is expected below.
  waiting.catch(() => {});
  allowed.jobs = [];
  await expect(run(waiting)).rejects.toMatchObject({ values: { code: 'JOB_NOT_READABLE' } });
});

test('a node whose traffic is used up, or that has stopped, answers nothing', async () => {
  const { hostOf, connected, run, ask, pauses, stop } = setUp();
  const reader = await connected(hostOf(2));
  pauses.set({ reason: 'traffic', text: '', until: null });
  await expect(run(ask(reader))).rejects.toMatchObject({ values: { code: 'NODE_TRAFFIC_USED' } });
  pauses.set(null);
  await expect(run(ask(reader))).resolves.toEqual({ checkpoint: null, residual: null, proofs: [] });
  for (const end of stop) end();
  await expect(run(ask(reader))).rejects.toMatchObject({ values: { code: 'RPC_METHOD_UNKNOWN' } });
});
