import { beforeAll, describe, expect, test } from 'vitest';
import { isSwarmError } from '../../common/errors.ts';
import { silentLogger } from '../../monitor/logs/log.ts';
import { readNode } from '../../node/reader/read-node.ts';
import { OwnJobs } from '../../node/store/own-jobs.ts';
import { proveMembership } from '../../protocol/access/job-key.ts';
import type { RpcRequest, RpcResponse } from '../../protocol/requests/rpc.ts';
import { signMessage, verifyMessage } from '../../protocol/signing.ts';
import { NODE_REASONS, openNodeRecord } from '../../verify/node-record.ts';
import { type VerifyOptions, type VerifyReport, verifyRecord } from '../../verify/verify-job.ts';
import { signerOf } from '../utils/swarm/signers.ts';
import { virtualEnvironment } from '../utils/virtual/environment.ts';
import { MemoryBlobs, MemoryDisk } from '../utils/virtual/memory-blobs.ts';
import { toyJob } from '../utils/virtual/toy-job.ts';
import { addressOf, type VirtualHost } from '../utils/virtual/virtual-network.ts';
import { VirtualNode } from '../utils/virtual/virtual-node.ts';
import { COORDINATOR, VirtualCoordinator, type VirtualCoordinatorOptions } from './virtual-coordinator.ts';

const ROUNDS = 5;
const DEADLINE_MS = 10 * 60_000;
const LIAR = signerOf(60);

/** Plays a job with two nodes, kills the coordinator for good, and starts the nodes again. */
async function orphans(options: Pick<VirtualCoordinatorOptions, 'admission'> = {}) {
  const { clock, network, random } = virtualEnvironment(14);
  const environment = { clock, network, random, log: silentLogger };
  const rounds = { count: ROUNDS, minPeers: 2, maxSeconds: 60, localSteps: 4 };
  const toy = toyJob(COORDINATOR, { rounds, namesCoordinator: true });
  const { job } = toy;
  const retention = { checkpoints: 2, rounds: 3 };
  const coordinator = new VirtualCoordinator({ toy, retention, ...options }, environment);
  const [node, other] = [1, 2].map(
    (number) =>
      new VirtualNode(
        {
          number,
          coordinator: COORDINATOR.peerId,
          layout: toy.layout,
          msPerStep: 200,
          options: { job },
        },
        environment,
      ),
  ) as [VirtualNode, VirtualNode];
  const run = async <T>(work: Promise<T>): Promise<T> => {
    let isOver = false;
    const end = (): void => {
      isOver = true;
    };
    work.then(end, end);
    expect(await clock.run(() => isOver, DEADLINE_MS)).toBe(true);
    return work;
  };
  coordinator.start();
  for (const one of [node, other]) one.start();
  expect(await clock.run(() => coordinator.finished && node.done && other.done, DEADLINE_MS)).toBe(true);
  await clock.run(() => false, 5_000);
  coordinator.crash();
  for (const one of [node, other]) {
    one.crash();
    one.start();
  }
  await clock.run(() => false, 5_000);
  const reader = (number: number): VirtualHost => {
    const blobs = new MemoryBlobs({ disk: new MemoryDisk(), clock, random, isAlive: () => true });
    return network.host({ signer: signerOf(number), blobs, isAlive: () => true });
  };
  /** Verifies what a peer has, as `lora-swarm verify` does. @param own the jobs of the reader's own node */
  const verify = (
    host: VirtualHost,
    peer: string,
    options: VerifyOptions & { own?: OwnJobs } = {},
  ): Promise<VerifyReport> => {
    const { own = new OwnJobs([]), ...verifying } = options;
    const signal = new AbortController().signal;
    const deps = { network: host, clock, signal };
    const work = async (): Promise<VerifyReport> => {
      await host.connect(addressOf(peer), { signal });
      const read = (await readNode({ network: host }, { peer, wanted: job, own }, deps, signal))!;
      const { proof } = read;
      const disk = new MemoryBlobs({ disk: new MemoryDisk(), clock, random, isAlive: () => true });
      const fetch = async (ref: { digest: string; size: number }) => {
        const prove = proof ? { prove: () => proof } : {};
        try {
          await host.fetchBlob(ref, { holders: [peer], into: disk as never, ...prove, signal });
          return await disk.get(ref.digest, { maxBytes: ref.size });
        } catch (error) {
          if (isSwarmError(error, 'BLOB_UNAVAILABLE')) return null;
          throw error;
        }
      };
      return verifyRecord(await openNodeRecord(read, { ...deps, fetch }), { job, ...verifying });
    };
    return run(work());
  };
  return { clock, network, job, node, other, reader, verify, run };
}

type Orphans = Awaited<ReturnType<typeof orphans>>;

describe('after the coordinator of an open job is gone', () => {
  let all: Orphans;
  beforeAll(async () => {
    all = await orphans();
  });

  test('a stranger verifies the chain and the newest weights of a node that was restarted', async () => {
    const report = await all.verify(all.reader(40), all.node.peer);
    expect(report.problems).toEqual([]);
    const newest = all.node.store.job(all.job);
    const { message } = verifyMessage('head', all.node.store.kept.head(all.job)!);
    expect(report).toMatchObject({
      ok: true,
      recomputed: 0,
      coordinator: COORDINATOR.peerId,
      held: {
        round: message.checkpoint.round,
        issuedAt: message.issuedAt,
        chainFrom: 0,
        weights: { round: message.checkpoint.round, digest: newest.adapter },
      },
    });
    expect(report.checkpoints.map(({ round }) => round)).toEqual([0, 1, 2, 3, 4, 5]);
    const last = report.checkpoints.at(-1)!;
    const made = [
      'signature',
      'chain',
      'settings',
      'heads',
      'contributors',
      'receipts',
      'weights',
      'adapter',
    ];
    expect(last.checked).toEqual(expect.arrayContaining(made));
    expect(last.unchecked).toEqual(
      expect.arrayContaining([
        { check: 'contributors', reason: NODE_REASONS.updates },
        { check: 'receipts', reason: NODE_REASONS.receipts },
        { check: 'merge', reason: NODE_REASONS.updates },
        { check: 'figures', reason: NODE_REASONS.figures },
      ]),
    );
  });

  test('a verification from a later round needs few requests', async () => {
    const host = all.reader(41);
    let calls = 0;
    const request = host.request.bind(host);
    host.request = ((...args: Parameters<typeof request>) => {
      calls++;
      return request(...args);
    }) as typeof request;
    const { ok, checkpoints, held } = await all.verify(host, all.node.peer, { from: 5 });
    expect([ok, checkpoints.map(({ round }) => round), held?.chainFrom]).toEqual([true, [5], 4]);
    expect(calls).toBeLessThan(8);
    await expect(all.verify(all.reader(42), all.node.peer, { from: 9 })).rejects.toMatchObject({
      code: 'ROUND_UNKNOWN',
    });
  });

  test('checkpoints that the node lacks are no problem, and the head stands for the newest one', async () => {
    const { node, job } = all;
    const rows = node.database.all('SELECT * FROM kept_checkpoints WHERE job = ? AND round IN (2, 5)', job);
    node.database.run('DELETE FROM kept_checkpoints WHERE job = ? AND round IN (2, 5)', job);
    const { ok, problems, held, checkpoints } = await all.verify(all.reader(43), node.peer);
    for (const { round, digest, envelope, ordinal } of rows) {
      node.store.kept.keepCheckpoint(job, {
        round: Number(round),
        ordinal: Number(ordinal),
        digest: String(digest),
        envelope: envelope as Uint8Array,
      });
    }
    expect(problems).toEqual([]);
    expect([ok, checkpoints.map(({ round }) => round)]).toEqual([true, [0, 1, 3, 4, 5]]);
    // The head names the parent of the missing checkpoint 5. So the chain is complete after the missing checkpoint 2.
    expect(held).toMatchObject({ round: 5, chainFrom: 3, weights: { round: 5 } });
    expect(checkpoints[2]!.unchecked).toContainEqual({ check: 'chain', reason: NODE_REASONS.checkpoints });
    const { checked, unchecked } = checkpoints[4]!;
    expect(checked).toEqual(['heads', 'chain', 'adapter']);
    expect(unchecked).toEqual([{ check: 'signature', reason: NODE_REASONS.checkpoints }]);
  });

  test('a node that lacks the newest adapter gives the one before', async () => {
    const { node, job } = all;
    const digestOf = (round: number): string => {
      const { envelope } = node.store.kept.checkpointFrom(job, round)!;
      return verifyMessage('checkpoint', envelope).message.adapter.digest;
    };
    const newest = digestOf(5);
    const bytes = node.disk.files.get(newest)!;
    const before = [...all.other.disk.files, ...node.disk.files].find(([digest]) => digest === digestOf(4));
    node.disk.files.delete(newest);
    const { ok, held } = await all.verify(all.reader(44), node.peer);
    node.disk.files.set(newest, bytes);
    expect(before).toBeUndefined();
    expect([ok, held?.weights]).toEqual([true, null]);
  });

  test('a checkpoint with a changed bit is the first problem that the report names', async () => {
    const { node, job } = all;
    const sql = 'UPDATE kept_checkpoints SET envelope = ? WHERE job = ? AND round = 3';
    const { envelope } = node.store.kept.checkpointFrom(job, 3)!;
    const changed = envelope.map((byte, i) => (i === 150 ? byte ^ 1 : byte));
    node.database.run(sql, changed, job);
    const { ok, problems } = await all.verify(all.reader(45), node.peer);
    node.database.run(sql, envelope, job);
    expect(ok).toBe(false);
    expect(problems[0]).toMatchObject({ code: 'VERIFY_SIGNATURE', round: 3 });
  });
});

/**
 * The lies of a node. Each function gets the honest answer to a request, and returns the answer that the node gives
 * instead.
 */
interface Lies {
  manifest?: (honest: RpcResponse<'manifest'>) => RpcResponse<'manifest'>;
  record?: (honest: RpcResponse<'record'>, asked: RpcRequest<'record'>) => RpcResponse<'record'>;
}

describe('a node that lies', () => {
  let all: Orphans;
  beforeAll(async () => {
    all = await orphans();
  });
  let number = 70;

  /** Verifies the record of a node that passes on the answers of an honest node, with changes. */
  const verifyLiar = async (lies: Lies): Promise<{ report: Promise<VerifyReport>; asked: number[] }> => {
    const { node, network } = all;
    const liar = all.reader(60);
    const asked: number[] = [];
    const signal = new AbortController().signal;
    await all.run(liar.connect(addressOf(node.peer), { signal }));
    liar.handle('manifest', async (_peer, body) => {
      const honest = await liar.request(node.peer, 'manifest', body, { signal });
      return lies.manifest?.(honest) ?? honest;
    });
    liar.handle('record', async (_peer, body) => {
      asked.push(body.ordinal);
      const honest = await liar.request(node.peer, 'record', body, { signal });
      return lies.record?.(honest, body) ?? honest;
    });
    const report = all.verify(all.reader(number++), LIAR.peerId).finally(() => network.down(LIAR.peerId));
    // The test awaits the report later, and then sees its error.
    report.catch(() => {});
    return { report, asked };
  };

  test('with a manifest or a head that another key signed', async () => {
    const { report } = await verifyLiar({
      manifest: ({ manifest, head }) => ({
        manifest: signMessage('manifest', verifyMessage('manifest', manifest).message, LIAR),
        head,
      }),
    });
    await expect(report).rejects.toMatchObject({ code: 'SIGNATURE_INVALID' });
    const otherJob = await verifyLiar({
      manifest: ({ manifest, head }) => ({
        manifest: signMessage(
          'manifest',
          { ...verifyMessage('manifest', manifest).message, coordinator: LIAR.peerId },
          LIAR,
        ),
        head,
      }),
    });
    await expect(otherJob.report).rejects.toMatchObject({ code: 'CHECKPOINT_UNTRUSTED' });
    const second = await verifyLiar({
      manifest: ({ manifest, head }) => ({
        manifest,
        head: signMessage('head', verifyMessage('head', head!).message, LIAR),
      }),
    });
    await expect(second.report).rejects.toMatchObject({ code: 'HEAD_MISMATCH' });
  });

  test('with a checkpoint that it signed itself', async () => {
    const { report } = await verifyLiar({
      record: (honest) => ({
        ...honest,
        checkpoint: signMessage('checkpoint', verifyMessage('checkpoint', honest.checkpoint!).message, LIAR),
      }),
    });
    expect((await report).problems).toMatchObject([
      { code: 'VERIFY_SIGNATURE', values: { author: LIAR.peerId } },
    ]);
  });

  test('with checkpoints without end, or out of order', async () => {
    const { report, asked } = await verifyLiar({
      record: (honest, { ordinal }) => ({ ...honest, ordinal }),
    });
    expect((await report).ok).toBe(true);
    expect(asked.length).toBeLessThan(8);
    const same = all.node.store.kept.checkpointFrom(all.job, 2)!.envelope;
    const repeated = await verifyLiar({ record: (honest) => ({ ...honest, checkpoint: same }) });
    expect((await repeated.report).problems[0]).toMatchObject({ code: 'VERIFY_SOURCE' });
    expect(repeated.asked.length).toBeLessThan(4);
    const backwards = await verifyLiar({
      record: (honest, { ordinal }) => ({ ...honest, ordinal: Math.max(0, ordinal - 1) }),
    });
    await expect(backwards.report).rejects.toMatchObject({ code: 'RECORD_INCOMPLETE' });
  });
});

describe('a node of a job to which not everyone is admitted', () => {
  test('answers only peers that show that they have the newest job key', async () => {
    const peers = [1, 2].map((number) => signerOf(number).peerId);
    const all = await orphans({ admission: { kind: 'peers', peers } });
    const { node, other, job, reader, verify, run } = all;
    const host = reader(40);
    await expect(verify(host, node.peer)).rejects.toMatchObject({ values: { code: 'JOB_NOT_READABLE' } });
    const own = new OwnJobs(other.store.keptJobs.all);
    const report = await verify(host, node.peer, { own });
    expect(report).toMatchObject({
      ok: true,
      problems: [],
      held: { chainFrom: 0, weights: { round: ROUNDS } },
    });

    const signal = new AbortController().signal;
    const { key } = own.find(job)!;
    const ends = { requester: host.peer, holder: node.peer };
    const ask = (body: Omit<RpcRequest<'record'>, 'ordinal' | 'first'>) =>
      run(host.request(node.peer, 'record', { ordinal: 0, first: 0, ...body }, { signal }));
    await expect(ask({ job, proof: proveMembership(job, key, ends) })).resolves.toMatchObject({ ordinal: 0 });
    const wrong = [
      proveMembership(job, { ...key, id: key.id + 1 }, ends),
      proveMembership(job, { ...key, key: new Uint8Array(32) }, ends),
      proveMembership(job, key, { ...ends, requester: other.peer }),
      proveMembership(job, key, { ...ends, holder: other.peer }),
    ];
    for (const proof of wrong) {
      await expect(ask({ job, proof })).rejects.toMatchObject({ values: { code: 'JOB_NOT_READABLE' } });
    }
    // For a job that the node is not in, the answer is the same.
    const unknown = 'a'.repeat(64);
    const proof = proveMembership(unknown, key, ends);
    await expect(ask({ job: unknown, proof })).rejects.toMatchObject({
      values: { code: 'JOB_NOT_READABLE' },
    });
  });
});
