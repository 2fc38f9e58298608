import { describe, expect, test } from 'vitest';
import { decodeAdapter, encodeAdapter } from '../../../lora/adapter/codec.ts';
import { applyDelta } from '../../../lora/update/index.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import { jobTopic } from '../../../protocol/job/topics.ts';
import { verifyMessage } from '../../../protocol/signing.ts';
import { mergeUpdates } from '../../../verify/merge/merge-updates.ts';
import { withCode } from '../../utils/source/codes.ts';
import { ScriptedPeer, training } from './scripted-peer.ts';
import { EVALUATION_FAILURE, World } from './world.ts';

describe('a round', () => {
  test('publishes its head once, answers requests for it, and ends with a checkpoint whose delta gives its adapter', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    const { peers, head } = await training(world, 2);
    const heads: Uint8Array[] = [];
    const [listener] = peers as [ScriptedPeer];
    listener.host.subscribe(jobTopic(world.toy.job, 'heads'), ({ data }) => {
      heads.push(data);
      return 'accept';
    });
    for (let i = 0; i < 4; i++) {
      await world.pass(5_000);
      for (const peer of peers) await peer.heartbeat('training');
    }
    expect(heads).toEqual([]);
    const { job, term, sequence } = head;
    const asks = (known: { term: number; sequence: number }) => listener.ask('head', { job, known });
    expect((await asks({ term, sequence })).head).toBeNull();
    expect((await asks({ term: term + 1, sequence: 1 })).head).toBeNull();
    expect(verifyMessage('head', (await asks({ term, sequence: sequence - 1 })).head!).message).toEqual(head);

    for (const peer of peers) {
      await peer.heartbeat('publishing');
      expect((await peer.submit(peer.seal(peer.update(head)))).code).toBe('accepted');
    }
    await world.until(() => world.run.record.checkpoint.checkpoint.round === 1, 'the first checkpoint');
    const next = await peers[0]!.head();
    expect(next).toMatchObject({ phase: 'training', round: 2, sequence: head.sequence + 1 });
    expect(next.included.map(({ peer }) => peer).sort()).toEqual(peers.map(({ id }) => id).sort());
    const { layout, manifest } = world.toy;
    const parent = decodeAdapter(world.disk.files.get(head.checkpoint.adapter.digest)!, layout);
    const stepped = applyDelta(layout, parent, world.disk.files.get(next.checkpoint.delta!.digest)!);
    expect(sha256(encodeAdapter(layout, stepped, manifest.base.digest))).toBe(next.checkpoint.adapter.digest);
    // A peer can start at a head and follow the parents, because the body of each checkpoint is the blob with the named
    // digest.
    expect(world.disk.files.has(next.checkpoint.digest)).toBe(true);
    expect(world.store.events.after(world.toy.job, 0, 100).map(({ type }) => type)).toEqual([
      'job-created',
      'peer-joined',
      'peer-joined',
      'round-opened',
      'update',
      'update',
      'round-closed',
      'scored',
      'checkpoint',
      'round-opened',
    ]);
  });

  test('leaves out the one update that makes its merge worse, and sends its author a receipt', async () => {
    const world = new World({
      rounds: { minPeers: 3, count: 1 },
      // Two honest updates lower the first tensor. The third update raises the second tensor, which costs more than the
      // others gain.
      losses: ([first, second]) => {
        const mean = (tensor: Float32Array): number =>
          tensor.reduce((sum, value) => sum + value, 0) / tensor.length;
        const loss = 10 + 10 * mean(first!) + 100 * mean(second!);
        return Array.from({ length: 4 }, () => ({ lossSum: loss, tokens: 10 }));
      },
    });
    const { peers, head } = await training(world, 3);
    const deltas = [
      [0.01, 0],
      [0.01, 0],
      [0, -0.02],
    ];
    for (const [i, peer] of peers.entries()) {
      await peer.submit(peer.seal(peer.update(head, { tokens: 32 }, peer.payload(deltas[i]!, head.preset))));
    }
    await world.until(() => world.run.driver.state.phase === 'finished', 'the end');
    const spoiler = peers[2]!;
    const update = sha256(spoiler.payload([0, -0.02], head.preset));
    expect(await spoiler.receipt(update)).toMatchObject({ code: 'left-out' });
    await world.pass(50);
    expect(spoiler.notified.map(({ code }) => code)).toEqual(['accepted', 'left-out']);
    expect(world.run.record.checkpoint.checkpoint.contributors.map(({ peer }) => peer).sort()).toEqual(
      [peers[0]!.id, peers[1]!.id].sort(),
    );
  });

  test('gives the same bits with and without an update that is 1,000 times too large', async () => {
    const world = new World({ rounds: { minPeers: 3, count: 1 } });
    const { peers, head } = await training(world, 3);
    const payload = peers[0]!.payload(50, head.preset);
    await peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head, {}, payload)));
    for (const peer of peers.slice(1)) await peer.submit(peer.seal(peer.update(head)));
    await world.until(() => world.run.driver.state.phase === 'finished', 'the end');
    expect((await peers[0]!.receipt(sha256(payload)))?.code).toBe('outlier');
    const figures = { merged: 2, leftOut: 0, outliers: 1 };
    expect(world.measured).toContainEqual({ type: 'gate', verdict: 'passed', ...figures });
    expect(world.run.receipts.tally(peers[0]!.id)).toMatchObject({ accepted: 0, refused: 1 });

    const { contributors, adapter } = world.run.record.checkpoint.checkpoint;
    expect(contributors.map(({ peer }) => peer).sort()).toEqual([peers[1]!.id, peers[2]!.id].sort());
    const { layout, manifest } = world.toy;
    const { outerRate: rate, denominatorFloor } = manifest.rounds;
    const read = async (digest: string): Promise<Uint8Array> => world.disk.files.get(digest)!;
    const alone = await mergeUpdates(
      {
        layout,
        baseDigest: manifest.base.digest,
        round: 1,
        sources: contributors.map(({ peer, round, update: digest, tokens }) => {
          const size = world.disk.files.get(digest)!.byteLength;
          const unknown = { maxTokens: tokens, belief: 1, person: peer, isNewcomer: false };
          return { peer, round, digest, size, preset: head.preset, tokens, ...unknown };
        }),
        weights: contributors.map(({ weight }) => weight),
        rate,
        denominatorFloor,
        adapter: manifest.adapter.initial,
        residual: null,
      },
      read,
    );
    expect(sha256(alone.adapter)).toBe(adapter.digest);
  });

  test('leaves out a step that no adapter can hold, and is a null round when it has no other', async () => {
    const world = new World({ rounds: { minPeers: 2, count: 1 } });
    const { peers, head } = await training(world, 2);
    const [hostile, honest] = peers as [ScriptedPeer, ScriptedPeer];
    // The other node does not change this tensor, so no median clips it.
    const payload = hostile.payload([90_000, 0], head.preset);
    await hostile.submit(hostile.seal(hostile.update(head, {}, payload)));
    await honest.submit(honest.seal(honest.update(head, {}, honest.payload([0, 0.05], head.preset))));
    await world.until(() => world.run.driver.state.phase === 'finished', 'the end');
    expect((await hostile.receipt(sha256(payload)))?.code).toBe('left-out');
    expect(world.run.record.checkpoint.checkpoint.contributors.map(({ peer }) => peer)).toEqual([honest.id]);

    const alone = new World({ rounds: { minPeers: 1, count: 1 } });
    const { peers: one, head: first } = await training(alone, 1);
    await one[0]!.submit(one[0]!.seal(one[0]!.update(first, {}, one[0]!.payload(90_000, first.preset))));
    await alone.until(() => alone.store.rounds.count(alone.toy.job, 'refused') === 1, 'the null round');
    const refused = alone.store.rounds.newest(alone.toy.job, 2).find(({ round }) => round === 1);
    expect(refused?.outcome).toBe('refused');
    expect(alone.measured).toContainEqual({
      type: 'gate',
      verdict: 'refused',
      merged: 0,
      leftOut: 0,
      outliers: 0,
    });
    expect(alone.run.driver.state).toMatchObject({ phase: 'training', round: 2 });
  });

  test('is a null round when the disk has lost one of its updates', async () => {
    const world = new World({ rounds: { minPeers: 2, count: 1 } });
    const { peers, head } = await training(world, 2);
    const lost = peers[0]!.update(head, {}, peers[0]!.payload(0.06, head.preset));
    const other = peers[1]!.update(head);
    world.failpoint = (name) => {
      if (name === 'round-closed') world.disk.files.delete(lost.payload.digest);
    };
    await peers[0]!.submit(peers[0]!.seal(lost));
    await peers[1]!.submit(peers[1]!.seal(other));
    await world.until(() => world.run.driver.state.round === 2, 'the next round');
    expect(world.run.driver.state).toMatchObject({ phase: 'training', refusals: 1 });
    expect((await peers[0]!.receipt(lost.payload.digest))?.code).toBe('null-round');
    expect((await peers[1]!.receipt(other.payload.digest))?.code).toBe('null-round');
  });

  test('is committed whatever losses its nodes claim', async () => {
    const world = new World({ rounds: { minPeers: 2, count: 1 } });
    const { peers, head } = await training(world, 2);
    const said = { lossFirst: Number.MAX_VALUE, lossLast: Number.MAX_VALUE, seconds: Number.MAX_VALUE };
    for (const peer of peers) await peer.submit(peer.seal(peer.update(head, said)));
    await world.until(() => world.run.driver.state.phase === 'finished', 'the end');
    expect(world.run.record.checkpoint.checkpoint.metrics.trainLoss).toBe(Number.MAX_VALUE);
  });

  test('sends null-round receipts when it ends without a checkpoint, and the next one has the same parent', async () => {
    const world = new World({ rounds: { minPeers: 2, maxSeconds: 20 } });
    const { peers, head } = await training(world, 2);
    const envelope = peers[0]!.update(head);
    await peers[0]!.submit(peers[0]!.seal(envelope));
    for (let i = 0; i < 5; i++) {
      for (const peer of peers) await peer.heartbeat('training');
      await world.pass(4_000);
    }
    await world.until(() => world.run.driver.state.round === 2, 'round 2');
    const events = world.store.events.after(world.toy.job, 0, 100);
    const { reason } = events.find(({ type }) => type === 'null-round') as unknown as { reason: string };
    expect(reason).not.toBe('');
    expect(await peers[0]!.receipt(envelope.payload.digest)).toMatchObject({
      code: 'null-round',
      detail: reason,
    });
    const next = await peers[0]!.head();
    expect(next.checkpoint).toEqual(head.checkpoint);
    expect(next.sequence).toBeGreaterThan(head.sequence);
  });

  test('evaluates its parent again after the device has changed', async () => {
    const world = new World({ rounds: { minPeers: 1, count: 3 } });
    const { peers } = await training(world, 1);
    const [peer] = peers as [ScriptedPeer];
    const evaluations: number[] = [];
    for (const fallbacks of [0, 1, 0]) {
      const head = await peer.head();
      world.fallbacks = fallbacks;
      const before = world.evaluations;
      await peer.submit(peer.seal(peer.update(head)));
      await world.until(() => world.run.record.checkpoint.checkpoint.round === head.round, 'the checkpoint');
      evaluations.push(world.evaluations - before);
    }
    // Round 1 evaluates the parent and the merge. Round 2 evaluates only the merge, but with a fallback, because the
    // device fails. So round 3 evaluates both again.
    expect(evaluations).toEqual([2, 1, 2]);
    const events = world.store.events.after(world.toy.job, 0, 100);
    expect(events.filter(({ type }) => type === 'evaluation-fallback')).toHaveLength(1);
  });

  test('is merged again when its evaluation fails', async () => {
    const world = new World({ rounds: { minPeers: 1, count: 1 } });
    const { peers, head } = await training(world, 1);
    world.brokenEvaluations = 2;
    await peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head)));
    await world.until(() => world.run.driver.state.phase === 'finished', 'the end');
    expect(world.run.record.checkpoint.checkpoint.round).toBe(1);
  });

  test('pauses the job after three failed evaluations, and is merged from the same updates after a resume', async () => {
    const world = new World({ rounds: { minPeers: 1, count: 1 } });
    const { peers, head } = await training(world, 1);
    world.brokenEvaluations = 3;
    await peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head)));
    await world.until(() => world.run.driver.state.phase === 'paused', 'the pause');
    expect(world.run.driver.state.reason).toContain(EVALUATION_FAILURE);
    world.run.operate({ type: 'resume' });
    await world.until(() => world.run.driver.state.phase === 'finished', 'the end');
    expect(world.run.record.checkpoint.checkpoint.contributors).toHaveLength(1);
  });
});

describe('a coordinator', () => {
  test('lists an open job for any peer', async () => {
    const world = await new World().start();
    const { jobs, others } = await new ScriptedPeer(1, world).ask('jobs', { invite: null });
    expect(jobs).toEqual([{ job: world.toy.job, name: 'toy', phase: 'waiting' }]);
    expect(others).toBe(false);
  });

  test('lists a job that needs an invite only for members and for peers with the invite', async () => {
    const world = await new World({ admission: { kind: 'invite' }, token: 'secret' }).start();
    const listed = { jobs: [{ job: world.toy.job, name: 'toy', phase: 'waiting' }], others: false };
    const peer = new ScriptedPeer(1, world);
    expect(await peer.ask('jobs', { invite: null })).toEqual({ jobs: [], others: true });
    expect(await peer.ask('jobs', { invite: 'wrong' })).toEqual({ jobs: [], others: true });
    expect(await peer.ask('jobs', { invite: 'secret' })).toEqual(listed);
    await peer.join('secret');
    expect(await peer.ask('jobs', { invite: null })).toEqual(listed);
  });

  test('sends heads only to members and readers of a job that needs an invite', async () => {
    const world = await new World({ admission: { kind: 'invite' }, token: 'secret' }).start();
    const peer = new ScriptedPeer(1, world);
    const { job } = world.toy;
    await expect(peer.ask('head', { job })).rejects.toMatchObject({ values: { code: 'NOT_ADMITTED' } });
    await peer.ask('manifest', { job, invite: 'secret' });
    expect((await peer.ask('head', { job })).head).not.toBeNull();
  });

  test('sends a manifest to a peer that it would admit, without making it a member', async () => {
    const world = await new World({ admission: { kind: 'invite' }, token: 'secret' }).start();
    const reader = new ScriptedPeer(1, world);
    const { job } = world.toy;
    await expect(reader.ask('manifest', { job, invite: null })).rejects.toMatchObject({
      code: 'RPC_REFUSED',
      values: { code: 'NOT_ADMITTED' },
    });
    const { manifest, head } = await reader.ask('manifest', { job, invite: 'secret' });
    expect(verifyMessage('manifest', manifest).digest).toBe(job);
    expect(verifyMessage('head', head!).message.job).toBe(job);
    expect(world.run.members.list.all()).toEqual([]);
    expect(world.run.members.liveness.size).toBe(0);
  });

  test('finds a job by name, digest and prefix of the digest', async () => {
    const world = await new World().start();
    const { job } = world.toy;
    for (const id of ['toy', job, job.slice(0, 6)]) expect(world.coordinator.find(id).context.job).toBe(job);
    for (const id of ['to', job.slice(0, 3), 'zzzz']) {
      expect(() => world.coordinator.find(id)).toThrow(withCode('JOB_UNKNOWN'));
    }
  });

  test('pauses, resumes and stops a job, and changes none that is over', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    const { peers } = await training(world, 2);
    world.run.operate({ type: 'pause', reason: 'lunch' });
    expect(await peers[0]!.head()).toMatchObject({ phase: 'paused', reason: 'lunch', assignments: [] });
    for (const peer of peers) await peer.heartbeat('awaiting');
    world.run.operate({ type: 'resume' });
    expect(await peers[0]!.head()).toMatchObject({ phase: 'training', round: 2 });
    world.run.operate({ type: 'stop', reason: 'enough' });
    expect(await peers[0]!.head()).toMatchObject({ phase: 'finished', reason: 'enough' });
    for (const order of [{ type: 'resume' }, { type: 'stop', reason: '' }] as const) {
      expect(() => world.run.operate(order)).toThrow(withCode('JOB_OVER', { phase: 'stopped' }));
    }
    expect(() => world.run.operate({ type: 'resume' })).toThrow(
      expect.objectContaining({ next: expect.stringMatching(/ --from toy".* clone toy"/) }),
    );
  });

  test('says that a job with all its checkpoints is finished', async () => {
    const world = new World({ rounds: { minPeers: 1, count: 1 } });
    const { peers, head } = await training(world, 1);
    await peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head)));
    await world.until(() => world.run.driver.state.phase === 'finished', 'the end');
    const pause = { type: 'pause', reason: '' } as const;
    expect(() => world.run.operate(pause)).toThrow(withCode('JOB_OVER', { phase: 'finished' }));
  });

  test('refuses to resume or pause a job that a stop ends after the closed round', async () => {
    const world = new World({ rounds: { minPeers: 1 } });
    const { peers, head } = await training(world, 1);
    let refused: unknown[] = [];
    world.failpoint = (name) => {
      if (name !== 'merged') return;
      world.run.operate({ type: 'stop', reason: 'enough' });
      refused = (['resume', 'pause'] as const).map((type) => {
        try {
          return world.run.operate({ type, reason: '' });
        } catch (error) {
          return error;
        }
      });
      world.run.operate({ type: 'stop', reason: 'enough' });
    };
    await peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head)));
    await world.until(() => world.run.driver.state.phase === 'finished', 'the end');
    expect(refused).toMatchObject([{ code: 'JOB_OVER' }, { code: 'JOB_OVER' }]);
  });

  test('sends nothing after it was stopped, and continues the round after a restart', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    const { peers, head } = await training(world, 2);
    await world.settle(world.coordinator.stop());
    await expect(peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head)))).rejects.toThrow();
    await world.start();
    expect((await peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head)))).code).toBe('accepted');
  });
});
