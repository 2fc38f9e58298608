import { describe, expect, test } from 'vitest';
import { PROOF_BYTES, RECORDED_REFUSALS } from '../../../../coordinator/intake/update-recorder.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { verifyEvidence } from '../../../../protocol/evidence.ts';
import type { Head, Update } from '../../../../protocol/messages.ts';
import { verifyMessage } from '../../../../protocol/signing.ts';
import { type ScriptedPeer, training } from '../scripted-peer.ts';
import { World } from '../world.ts';

/** A round with four nodes, of which the first one signs two different updates. */
async function conflict(options: ConstructorParameters<typeof World>[0] = {}) {
  const world = new World({ rounds: { minPeers: 2, count: 5, quorum: 1 }, ...options });
  const { peers, head } = await training(world, 4);
  const [liar, ...honest] = peers as [ScriptedPeer, ...ScriptedPeer[]];
  const first = liar.update(head);
  const second = liar.update(head, {}, liar.payload(0.01, head.preset));
  return { world, head, liar, honest, first, second, job: world.toy.job };
}

async function deliver(peers: readonly ScriptedPeer[], head: Head): Promise<void> {
  for (const peer of peers) expect((await peer.submit(peer.seal(peer.update(head)))).code).toBe('accepted');
}

describe('two different updates of a round by one node', () => {
  test('are both kept as proof, and neither is merged', async () => {
    const { world, head, liar, honest, first, second, job } = await conflict();
    expect((await liar.submit(liar.seal(first))).code).toBe('accepted');
    expect((await liar.submit(liar.seal(second))).code).toBe('conflicting');

    // Receipts and events report the conflict, for both updates.
    expect(await liar.receipt(first.payload.digest)).toMatchObject({
      code: 'conflicting',
      round: head.round,
    });
    expect(await liar.receipt(second.payload.digest)).toMatchObject({ code: 'conflicting' });
    await world.pass(50);
    expect(liar.notified.map(({ code }) => code)).toEqual(['accepted', 'conflicting', 'conflicting']);
    const events = world.store.events.after(job, 0, 100).filter((event) => 'code' in event);
    expect(events.map((event) => [event.type, 'code' in event && event.code])).toEqual([
      ['update', 'accepted'],
      ['update-undone', 'conflicting'],
      ['update', 'conflicting'],
    ]);
    expect(world.run.receipts.lastDelivery(liar.id)).toBeNull();

    // Any peer can verify the proof without the coordinator.
    const [proof, ...more] = world.store.conflicts.ofPeer(job, liar.id);
    expect(more).toEqual([]);
    expect(proof).toMatchObject({ round: head.round, complete: true });
    expect(verifyMessage('update', proof!.first)).toMatchObject({ author: liar.id, message: first });
    expect(verifyMessage('update', proof!.second)).toMatchObject({ author: liar.id, message: second });

    // The round continues without the node, and does not wait for it.
    await deliver(honest, head);
    await world.until(() => world.run.record.checkpoint.checkpoint.round === 1, 'the checkpoint');
    const { contributors } = world.run.record.checkpoint.checkpoint;
    expect(contributors.map(({ peer }) => peer).sort()).toEqual(honest.map(({ id }) => id).sort());
  });

  test('are the same for gossip and requests, and for two that arrive while the first is being checked', async () => {
    const { world, head, liar, honest, first, second, job } = await conflict();
    const payload = liar.payload(0.05, head.preset);
    // The node announces the first payload, but never serves it.
    liar.blobs.get = () => new Promise(() => {});
    const announced = {
      ...first,
      payload: { digest: sha256(payload), size: payload.byteLength },
      inline: null,
    };
    await liar.publish(liar.seal(announced));
    await liar.publish(liar.seal(second));
    expect(world.store.conflicts.peersOf(job, head.round)).toEqual([liar.id]);
    expect(await liar.receipt(second.payload.digest)).toMatchObject({ code: 'conflicting' });
    await deliver(honest, head);
    await world.until(() => world.run.record.checkpoint.checkpoint.round === 1, 'the checkpoint');
    expect(world.run.record.checkpoint.checkpoint.contributors).toHaveLength(honest.length);
  });

  test.each([
    ['tokens', ({ tokens }: Update) => ({ tokens: tokens - 1 })],
    ['steps', ({ steps }: Update) => ({ steps: steps + 1 })],
    ['parent', () => ({ parent: sha256(new Uint8Array()) })],
  ])('conflict also if only the %s differ', async (_, change) => {
    const { liar, first, world, job } = await conflict();
    expect((await liar.submit(liar.seal(first))).code).toBe('accepted');
    const second = liar.seal({ ...first, ...change(first) });
    expect((await liar.submit(second)).code).toBe('conflicting');
    expect(world.store.conflicts.ofPeer(job, liar.id)).toHaveLength(1);
    expect(world.store.updates.ofRounds(job, 1, 1)).toEqual([]);
  });

  test('of another term gets a refusal, which does not replace the receipt of the first update', async () => {
    const { liar, first } = await conflict();
    expect((await liar.submit(liar.seal(first))).code).toBe('accepted');
    const second = liar.seal({ ...first, term: first.term + 1 });
    expect((await liar.submit(second)).code).toBe('wrong-term');
    expect(await liar.receipt(first.payload.digest)).toMatchObject({ code: 'accepted' });
  });

  test('do not conflict if they differ only in how the payload is sent', async () => {
    const { liar, first, world, job } = await conflict();
    expect((await liar.submit(liar.seal(first))).code).toBe('accepted');
    expect((await liar.submit(liar.seal({ ...first, inline: null }))).code).toBe('accepted');
    expect(world.store.conflicts.ofPeer(job, liar.id)).toEqual([]);
  });

  test('are refused for good: a third one, and each of them again', async () => {
    const { world, head, liar, first, second, job } = await conflict();
    const third = liar.update(head, {}, liar.payload(0.02, head.preset));
    await liar.submit(liar.seal(first));
    await liar.submit(liar.seal(second));
    for (const update of [third, first, second, third]) {
      expect((await liar.submit(liar.seal(update))).code).toBe('not-admitted');
    }
    expect(world.store.updates.ofRounds(job, 1, 1)).toEqual([]);
    expect(world.store.conflicts.ofPeer(job, liar.id)).toHaveLength(1);
    expect(world.store.updates.receipts(job, liar.id, 100).length).toBeLessThan(RECORDED_REFUSALS);
  });

  test('stay excluded over a restart, and the round does not wait for their author', async () => {
    const { world, head, liar, honest, first, second } = await conflict();
    await liar.submit(liar.seal(first));
    await liar.submit(liar.seal(second));
    await world.settle(world.coordinator.stop());
    await world.start();
    expect(world.run.driver.state.current).toMatchObject({ delivered: [], excluded: [liar.id] });
    expect((await liar.submit(liar.seal(first))).code).toBe('not-admitted');
    await deliver(honest, head);
    await world.until(() => world.run.record.checkpoint.checkpoint.round === 1, 'the checkpoint');
    expect(world.run.record.checkpoint.checkpoint.contributors).toHaveLength(honest.length);
  });

  test('leave the first one merged if the second one comes after the merge, but are kept as proof', async () => {
    const { world, head, liar, honest, first, second, job } = await conflict();
    await liar.submit(liar.seal(first));
    await deliver(honest, head);
    await world.until(() => world.run.driver.state.round === 2, 'round 2');
    expect(await liar.submit(liar.seal(second))).toMatchObject({
      code: 'conflicting',
      detail: expect.stringMatching(/\bround 1; .*\bmerge\b/),
    });
    expect(await liar.receipt(first.payload.digest)).toMatchObject({ code: 'accepted' });
    expect(world.store.updates.find(job, 1, liar.id)).toMatchObject({ fate: 'merged' });
    const [proof] = world.store.conflicts.ofPeer(job, liar.id);
    expect(verifyMessage('update', proof!.first).message).toEqual(first);
    expect(world.run.receipts.lastDelivery(liar.id)).toBeNull();
  });

  test('fill a bounded part of the database: one complete proof for each node', async () => {
    const { world, head, liar, honest, job } = await conflict();
    const lie = async (at: Head): Promise<void> => {
      for (const delta of [0.05, 0.01]) {
        const update: Update = liar.update(at, {}, liar.payload(delta, at.preset));
        await liar.submit(liar.seal(update));
      }
    };
    await lie(head);
    await deliver(honest, head);
    await world.until(() => world.run.driver.state.round === 2, 'round 2');
    await deliver(honest, await honest[0]!.head());
    world.coordinator.pardon(liar.id, { job: null });
    await liar.join();
    for (const peer of honest) await peer.heartbeat('awaiting');
    await world.until(() => world.run.driver.state.round === 3, 'round 3');
    const next = await liar.head();
    await lie(next);
    const proofs = world.store.conflicts.ofPeer(job, liar.id);
    expect(proofs.map(({ complete }) => complete)).toEqual([true, false]);
    const payload = liar.payload(0.05, next.preset);
    expect(verifyEvidence(proofs[1]!.first, payload).message.round).toBe(next.round);
    expect(proofs[1]!.first.byteLength + proofs[1]!.second.byteLength).toBeLessThan(2_048);
    expect(world.store.conflicts.bytes(job)).toBeLessThan(PROOF_BYTES);
  });
});

test('a node that joins hears for which round the coordinator has its update, so that it does not sign another one', async () => {
  const world = new World();
  const { peers, head } = await training(world, 2);
  const [one, other] = peers as [ScriptedPeer, ScriptedPeer];
  const about = { job: world.toy.job, invite: null, name: 'p', agent: 'test', engine: 'none' };
  const delivered = async (peer: ScriptedPeer): Promise<number | null> => {
    const answer = await peer.ask('join', { ...about, tokensPerSecond: 0, sentAt: world.clock.now() });
    return answer.delivered;
  };
  expect(await delivered(one)).toBeNull();
  expect((await one.submit(one.seal(one.update(head)))).code).toBe('accepted');
  expect(await delivered(one)).toBe(head.round);
  // The coordinator also reports an update whose payload it is still fetching.
  other.blobs.get = () => new Promise(() => {});
  await other.publish(
    other.seal({ ...other.update(head, {}, other.payload(0.01, head.preset)), inline: null }),
  );
  expect(await delivered(other)).toBe(head.round);
});
