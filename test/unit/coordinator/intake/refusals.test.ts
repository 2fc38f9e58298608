import { describe, expect, test } from 'vitest';
import { UPDATE_QUOTA } from '../../../../coordinator/intake/intake.ts';
import { FETCH_STALL_MS } from '../../../../coordinator/intake/payload-fetches.ts';
import { PAYLOADS_AT_ONCE } from '../../../../coordinator/intake/payload-intake.ts';
import { ALL_REFUSALS, RECORDED_REFUSALS } from '../../../../coordinator/intake/update-recorder.ts';
import { isOpen } from '../../../../coordinator/round/job-phase.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { verifyEvidence } from '../../../../protocol/evidence.ts';
import { GOSSIP_MESSAGE_BYTES, STALE_ROUNDS, UPDATE_BYTES } from '../../../../protocol/limits.ts';
import type { Update } from '../../../../protocol/messages.ts';
import { counts, type ReceiptCode } from '../../../../protocol/receipts.ts';
import { signMessage } from '../../../../protocol/signing.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { ScriptedPeer, strangers, training } from '../scripted-peer.ts';
import { World } from '../world.ts';

const OTHER = 'ab'.repeat(32);
/**
 * Number of updates in a flood. Before there were limits, this many updates stopped the event loop for 1.7 s and left
 * 549 events.
 */
const FLOOD = 8_000;

/** The change that each violation makes to an honest update. */
const headers: readonly [name: string, code: ReceiptCode, (update: Update) => Partial<Update>][] = [
  ['another term', 'wrong-term', ({ term }) => ({ term: term + 1 })],
  ['a round that has not begun', 'wrong-round', ({ round }) => ({ round: round + 1 })],
  ['another parent', 'wrong-parent', () => ({ parent: OTHER })],
  ['another interval', 'not-assigned', ({ end }) => ({ end: end + 1 })],
  ['more steps than asked for', 'not-assigned', ({ steps }) => ({ steps: steps + 1 })],
  ['more tokens than its steps have', 'not-assigned', ({ tokens }) => ({ tokens: tokens + 1 })],
  ['another preset', 'wrong-preset', () => ({ preset: 'tiny' })],
  [
    'a size no payload of the preset has',
    'too-large',
    ({ payload }) => ({ payload: { ...payload, size: UPDATE_BYTES } }),
  ],
  [
    "a size that is not the payload's",
    'size-mismatch',
    ({ payload }) => ({ payload: { ...payload, size: payload.size - 1 } }),
  ],
  [
    "a digest that is not the payload's",
    'size-mismatch',
    ({ payload }) => ({ payload: { ...payload, digest: OTHER } }),
  ],
];

/** The update is not sealed, as in the request `submit`. */
const plain = { sealed: false };

describe('an update is refused, with its code, for', () => {
  test.each(headers)('%s', async (_name, code, change) => {
    const world = new World();
    const { peers, head } = await training(world, 3);
    const honest = peers[0]!.update(head);
    const receipt = await peers[0]!.submit(peers[0]!.seal({ ...honest, ...change(honest) }));
    expect(receipt).toMatchObject({ code, peer: peers[0]!.id });
    expect(world.run.driver.state.current?.delivered).toEqual([]);
    // The honest update is still accepted after the refusal.
    expect((await peers[0]!.submit(peers[0]!.seal(honest))).code).toBe('accepted');
  });

  test('another job', async () => {
    const world = new World();
    const { peers, head } = await training(world, 2);
    const envelope = peers[0]!.seal(peers[0]!.update(head, { job: OTHER }));
    expect((await peers[0]!.submit(envelope)).code).toBe('wrong-job');
  });

  test('a node that has not joined, and one that joined after the round opened', async () => {
    const world = new World();
    const { head } = await training(world, 2);
    const stranger = new ScriptedPeer(9, world);
    expect((await stranger.submit(stranger.seal(stranger.update(head)))).code).toBe('not-admitted');
    await stranger.join();
    expect((await stranger.submit(stranger.seal(stranger.update(head)))).code).toBe('not-assigned');
  });

  test('bytes that are no message; the receipt names their sender', async () => {
    const world = new World();
    const { peers } = await training(world, 2);
    const garbage = Uint8Array.from({ length: 300 }, (_, i) => (i * 37) % 256);
    expect(await peers[0]!.submit(garbage)).toMatchObject({
      code: 'malformed',
      peer: peers[0]!.id,
      update: sha256(garbage),
    });
    const large = new Uint8Array(GOSSIP_MESSAGE_BYTES + 1);
    expect((await peers[0]!.submit(large)).code).toBe('too-large');
  });

  test('a changed byte of a signed message', async () => {
    const world = new World();
    const { peers, head } = await training(world, 2);
    const envelope = peers[0]!.seal(peers[0]!.update(head)).slice();
    envelope[envelope.length - 1]! ^= 1;
    expect((await peers[1]!.submit(envelope)).code).toBe('bad-signature');
  });

  test('payloads that do not decode or change nothing: garbage, truncated, padded, with an index out of bounds, zeros', async () => {
    const world = new World({ rounds: { preset: 'tiny' } });
    const { peers, head } = await training(world, 2);
    const [peer] = peers;
    const payload = peer!.payload(0.05, head.preset);
    const broken = [
      payload.map((byte, i) => (i < 17 ? byte : 255)),
      payload.slice(0, -1),
      Uint8Array.of(...payload, 0),
      payload.map(() => 7),
      peer!.payload(0, head.preset),
    ];
    for (const bytes of broken) {
      const { code } = await peer!.submit(peer!.seal(peer!.update(head, {}, bytes)));
      expect(['bad-payload', 'too-large'], `${bytes.length} bytes`).toContain(code);
    }
    expect(world.run.driver.state.current?.delivered).toEqual([]);
  });

  test('scales that are not numbers', async () => {
    const world = new World({ rounds: { preset: 'dense' } });
    const { peers, head } = await training(world, 2);
    const payload = peers[0]!.payload(0.05, 'dense').slice();
    // The scale of the first block is after the header of 17 bytes.
    payload[17] = 0xff;
    payload[18] = 0xff;
    expect((await peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head, {}, payload)))).code).toBe(
      'not-finite',
    );
  });

  test('nothing if it is the same update again: it gets the same receipt', async () => {
    const world = new World();
    const { peers, head } = await training(world, 2);
    const [peer] = peers as [ScriptedPeer];
    const envelope = peer.seal(peer.update(head));
    expect((await peer.submit(envelope)).code).toBe('accepted');
    await peer.publish(envelope);
    expect((await peer.submit(envelope)).code).toBe('accepted');
    expect(world.store.updates.ofRounds(world.toy.job, 1, 1)).toHaveLength(1);
    expect(world.run.receipts.tally(peer.id)).toMatchObject({ accepted: 1, refused: 0 });
  });

  test('a copy of an update of another node', async () => {
    const world = new World();
    const { peers, head } = await training(world, 2);
    const [author, copier] = peers as [ScriptedPeer, ScriptedPeer];
    const envelope = author.seal(author.update(head));
    expect(await copier.submit(envelope)).toMatchObject({ code: 'duplicate', peer: copier.id });
    expect((await author.submit(envelope)).code).toBe('accepted');
  });

  test('a flood, which does not take back the delivery of an accepted update', async () => {
    const world = new World();
    const { peers, head } = await training(world, 2);
    const peer = peers[0]!;
    expect((await peer.submit(peer.seal(peer.update(head)))).code).toBe('accepted');
    for (let i = 0; i <= UPDATE_QUOTA.calls; i++) await peer.publish(Uint8Array.of(i, 1, 2, 3));
    expect(world.run.receipts.tally(peer.id).last?.code).toBe('rate-limited');
    expect(world.run.receipts.lastDelivery(peer.id)).toBe(head.round);
  });

  test('a round that closed too long ago; later ones are accepted as late', async () => {
    const world = new World({ rounds: { count: 20, minPeers: 1, localSteps: 2 } });
    const { peers, head } = await training(world, 2);
    const [fast, slow] = peers as [ScriptedPeer, ScriptedPeer];
    const late = slow.seal(slow.update(head));
    await fast.work(
      () => 0.001,
      () => world.run.driver.state.round > STALE_ROUNDS + 2,
    );
    await world.until(() => world.run.driver.state.round === 2, 'round 2');
    expect((await slow.submit(late)).code).toBe('late');
    await world.until(() => world.run.driver.state.round > STALE_ROUNDS + 2, 'later rounds');
    const other = slow.seal(slow.update(head, {}, slow.payload(0.01, head.preset)));
    expect((await slow.submit(other)).code).toBe('wrong-round');
    const merged = world.store.updates.find(world.toy.job, 1, slow.id);
    expect(merged).toMatchObject({ late: true, fate: 'merged', mergeRound: 2 });
  });

  test('a flood: above the rate nothing is read, and little is recorded', async () => {
    const world = new World();
    const { peers, head } = await training(world, 2);
    const [peer] = peers;
    for (let i = 0; i < UPDATE_QUOTA.calls + 60; i++) await peer!.publish(Uint8Array.of(i, 1, 2, 3));
    const receipts = world.store.updates.receipts(world.toy.job, peer!.id, 1000);
    expect(receipts.length).toBeLessThanOrEqual(RECORDED_REFUSALS);
    expect(world.measured).toContainEqual({ type: 'refusal', code: 'rate-limited' });
    expect(world.network.rejected.length).toBeGreaterThan(0);
    await world.pass(UPDATE_QUOTA.perMs);
    const { code } = await peer!.submit(peer!.seal(peer!.update(head)));
    expect(counts(code), code).toBe(true);
  });

  test('a flood of signed updates under unknown identities: each is counted, and none leaves a row or a receipt', async () => {
    const world = new World();
    const { peers, head } = await training(world, 2);
    const [peer] = peers as [ScriptedPeer];
    const { job } = world.toy;
    const rows = () => ({
      events: world.store.events.after(job, 0, 10_000).length,
      receipts: world.store.updates.receiptCounts(job).length,
    });
    const before = rows();
    const honest = peer.update(head);
    const flood = strangers(world, FLOOD).map(({ signer }) => ({
      author: signer.peerId,
      envelope: signMessage('update', honest, signer),
    }));
    for (const { author, envelope } of flood) {
      const { verdict, receipt } = world.run.intake.receive(envelope, author, plain);
      expect(verdict).toBe('ignore');
      const found = await receipt;
      expect(found).toMatchObject({ code: 'not-admitted', peer: author, digest: honest.payload.digest });
    }
    expect(world.measured).toHaveLength(FLOOD);
    expect(new Set(world.measured.map((fact) => JSON.stringify(fact)))).toEqual(
      new Set([JSON.stringify({ type: 'refusal', code: 'not-admitted' })]),
    );
    expect(rows()).toEqual(before);
    expect(world.run.receipts.tally(flood[0]!.author).refused).toBe(0);
    expect((await peer.submit(peer.seal(honest))).code).toBe('accepted');
  });

  test('a flood of a member, whose quota stays used up whatever thousands of strangers send', async () => {
    const world = new World();
    const { peers, head } = await training(world, 2);
    const [peer] = peers as [ScriptedPeer];
    const send = (): Promise<{ code: string }> =>
      world.run.intake.receive(Uint8Array.of(1), peer.id, plain).receipt;
    for (let i = 0; i < UPDATE_QUOTA.calls; i++) expect((await send()).code).toBe('malformed');
    expect((await send()).code).toBe('rate-limited');
    // Calls of more peers than a limiter remembers must not make it forget this peer.
    const update = peer.seal(peer.update(head));
    for (let i = 0; i < 5_000; i++) world.run.intake.receive(update, `stranger ${i}`, plain);
    expect((await send()).code).toBe('rate-limited');
  });

  test('a flood of members: what is recorded is bounded for each and for all, and an assigned node keeps its share', async () => {
    const world = new World();
    const { peers, head } = await training(world, 2);
    const [peer] = peers as [ScriptedPeer];
    const { job } = world.toy;
    const hosts = strangers(world, ALL_REFUSALS.calls + 100);
    const about = { invite: null, name: '', agent: '', engine: '', sentAt: world.clock.now() };
    for (const host of hosts) world.run.members.join(host.peer, about);
    for (const host of hosts) {
      const bytes = signMessage('update', peer.update(head), host.signer);
      expect(await world.run.intake.receive(bytes, host.peer, plain).receipt).toMatchObject({
        code: 'not-assigned',
      });
    }
    const recorded = () => world.store.updates.receiptCounts(job).reduce((sum, { count }) => sum + count, 0);
    expect(recorded()).toBeLessThan(ALL_REFUSALS.calls + 20);
    // The limit that all peers share is used up. But the first refusal of an assigned node is still recorded.
    const wrong = peer.update(head, { parent: OTHER });
    expect((await peer.submit(peer.seal(wrong))).code).toBe('wrong-parent');
    expect(await peer.receipt(wrong.payload.digest)).toMatchObject({ code: 'wrong-parent' });
    expect((await peer.submit(peer.seal(peer.update(head)))).code).toBe('accepted');
  });
});

describe('announced payloads', () => {
  const announce = (peer: ScriptedPeer, head: Parameters<ScriptedPeer['update']>[0], payload?: Uint8Array) =>
    peer.seal({ ...peer.update(head, {}, payload), inline: null });

  test('are fetched from their author', async () => {
    const world = new World();
    const { peers, head } = await training(world, 2);
    const payload = peers[0]!.payload(0.05, head.preset);
    peers[0]!.disk.files.set(sha256(payload), payload);
    expect((await peers[0]!.submit(announce(peers[0]!, head, payload))).code).toBe('accepted');
    expect(world.disk.files.has(sha256(payload))).toBe(true);
  });

  test('that their author does not have are unavailable', async () => {
    const world = new World();
    const { peers, head } = await training(world, 2);
    expect((await peers[0]!.submit(announce(peers[0]!, head))).code).toBe('unavailable');
  });

  test('that never arrive delay no update with an inline payload', async () => {
    const world = new World({ rounds: { minPeers: PAYLOADS_AT_ONCE + 1 } });
    const { peers, head } = await training(world, PAYLOADS_AT_ONCE + 1);
    const [honest, ...silent] = peers;
    for (const peer of silent) {
      peer.blobs.get = () => new Promise(() => {});
      await peer.publish(announce(peer, head));
    }
    const before = world.clock.now();
    expect((await honest!.submit(honest!.seal(honest!.update(head)))).code).toBe('accepted');
    expect(world.clock.now() - before).toBeLessThan(1_000);
    const { digest } = silent[0]!.update(head).payload;
    await world.pass(FETCH_STALL_MS);
    expect(await silent[0]!.receipt(digest)).toMatchObject({ code: 'unavailable' });
  });

  test('that do not decode leave no blob, and delete none that was there before', async () => {
    const world = new World();
    const { peers, head } = await training(world, 2);
    const [peer] = peers;
    const garbage = peer!.payload(0.05, head.preset).map(() => 9);
    peer!.disk.files.set(sha256(garbage), garbage);
    expect((await peer!.submit(announce(peer!, head, garbage))).code).toBe('bad-payload');
    expect(world.disk.files.has(sha256(garbage))).toBe(false);
    // The peer announces a file of the base as the payload of an update.
    const base = world.toy.blobs[0]!;
    peer!.disk.files.set(sha256(base), base);
    expect((await peer!.submit(announce(peer!, head, base))).code).toBe('bad-payload');
    expect(world.disk.files.has(sha256(base))).toBe(true);
  });

  test('are asked of their author whether or not the store has them, so that no stranger can tell what it has', async () => {
    const world = new World();
    const { peers, head } = await training(world, 2);
    const [peer] = peers;
    const asked: string[] = [];
    const get = peer!.blobs.get.bind(peer!.blobs);
    peer!.blobs.get = (digest, options) => {
      asked.push(digest);
      return get(digest, options);
    };
    for (const blob of [world.toy.blobs[0]!, peer!.payload(0.05, head.preset)]) {
      peer!.disk.files.delete(sha256(blob));
      expect((await peer!.submit(announce(peer!, head, blob))).code).toBe('unavailable');
      expect(asked).toContain(sha256(blob));
    }
  });

  test('that another node has sent are unavailable, but an author may announce its own payload again', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    const { peers, head } = await training(world, 2);
    const [author, thief] = peers as [ScriptedPeer, ScriptedPeer];
    const payload = author.payload(0.05, head.preset);
    author.disk.files.set(sha256(payload), payload);
    expect((await author.submit(announce(author, head, payload))).code).toBe('accepted');
    expect((await thief.submit(announce(thief, head, payload))).code).toBe('unavailable');
    const own = thief.update(head, {}, thief.payload(0.01, head.preset));
    expect((await thief.submit(thief.seal(own))).code).toBe('accepted');
    const opened = (): boolean => world.run.driver.state.round > head.round && isOpen(world.run.driver.state);
    await world.until(opened, 'the next round');
    const next = world.run.record.heads.newest.head;
    expect((await author.submit(announce(author, next, payload))).code).toBe('accepted');
  });
});

test('an accepted update sends its receipt to the author, and keeps a proof of its author', async () => {
  const world = new World();
  const { peers, head } = await training(world, 2);
  const [peer] = peers;
  const update = peer!.update(head);
  await peer!.publish(peer!.seal(update));
  expect(peer!.notified).toMatchObject([{ code: 'accepted', update: update.payload.digest, round: 1 }]);
  const { evidence, digest } = world.store.updates.find(world.toy.job, 1, peer!.id)!;
  const payload = world.disk.files.get(digest)!;
  expect(verifyEvidence(evidence, payload)).toMatchObject({ author: peer!.id, message: update });
  expect(() =>
    verifyEvidence(
      evidence,
      payload.map((byte) => byte ^ 1),
    ),
  ).toThrow(withCode('SIGNATURE_INVALID'));
  expect(evidence.byteLength).toBeLessThan(1024);
});
