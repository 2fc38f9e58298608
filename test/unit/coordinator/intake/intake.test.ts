import { describe, expect, test } from 'vitest';
import { SwarmError } from '../../../../common/errors.ts';
import {
  FETCHES_AT_ONCE,
  fetchTimeoutMs,
  MIN_FETCH_RATE,
} from '../../../../coordinator/intake/payload-fetches.ts';
import { PAYLOADS_AT_ONCE } from '../../../../coordinator/intake/payload-intake.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { UPDATE_BYTES } from '../../../../protocol/limits.ts';
import type { Head, Update } from '../../../../protocol/messages.ts';
import { type ScriptedPeer, training } from '../scripted-peer.ts';
import { World } from '../world.ts';

/** Announces an update whose payload the author serves. Every `delta` makes another payload. */
function announced(peer: ScriptedPeer, head: Head, delta: number): Update {
  const payload = peer.payload(delta, head.preset);
  peer.disk.files.set(sha256(payload), payload);
  return { ...peer.update(head, {}, payload), inline: null };
}

/** Makes a peer never serve a blob. Returns an object that counts the requests for its blobs. */
function stall(peer: ScriptedPeer): { asked: number } {
  const count = { asked: 0 };
  peer.blobs.get = () => {
    count.asked++;
    return new Promise(() => {});
  };
  return count;
}

describe('announced payloads', () => {
  test('of authors that serve nothing delay no other while a permit is left', async () => {
    const world = new World({ rounds: { minPeers: FETCHES_AT_ONCE } });
    const { peers, head } = await training(world, FETCHES_AT_ONCE);
    expect(FETCHES_AT_ONCE - 1).toBeGreaterThan(PAYLOADS_AT_ONCE);
    const [honest, ...silent] = peers;
    for (const [i, peer] of silent.entries()) {
      stall(peer);
      await peer.publish(peer.seal(announced(peer, head, 0.06 + i / 100)));
    }
    const before = world.clock.now();
    expect((await honest!.submit(honest!.seal(announced(honest!, head, 0.05)))).code).toBe('accepted');
    expect(world.clock.now() - before).toBeLessThan(1_000);
  });

  test('of authors that serve nothing delay others at most for their time limit when no permit is left', async () => {
    const world = new World({ rounds: { minPeers: FETCHES_AT_ONCE + 1 } });
    const { peers, head } = await training(world, FETCHES_AT_ONCE + 1);
    const [honest, ...silent] = peers;
    for (const [i, peer] of silent.entries()) {
      stall(peer);
      await peer.publish(peer.seal(announced(peer, head, 0.06 + i / 100)));
    }
    const before = world.clock.now();
    const update = announced(honest!, head, 0.05);
    expect((await honest!.submit(honest!.seal(update))).code).toBe('accepted');
    expect(world.clock.now() - before).toBeLessThan(fetchTimeoutMs(update.payload.size) + 1_000);
  });

  test('of one author are fetched one at a time, whatever their rounds', async () => {
    const world = new World({ rounds: { minPeers: 2, quorum: 0.5 } });
    const { peers, head } = await training(world, 4);
    const [slow, ...others] = peers;
    const count = stall(slow!);
    const first = announced(slow!, head, 0.06);
    await slow!.publish(slow!.seal(first));
    for (const peer of others) await peer.submit(peer.seal(peer.update(head)));
    await world.until(
      () => world.run.driver.state.round > head.round && world.run.driver.state.current !== null,
      'round 2',
    );
    for (const peer of peers) await peer.heartbeat('awaiting');
    const next = await others[0]!.head();
    expect(next.assignments.map(({ peer }) => peer)).toContain(slow!.id);
    await slow!.publish(slow!.seal(announced(slow!, next, 0.07)));
    expect(count.asked).toBe(1);
    await world.until(() => count.asked === 2, 'the second fetch');
    expect(await slow!.receipt(first.payload.digest)).toMatchObject({ code: 'unavailable' });
  });

  test('that two authors announce are fetched from the one that serves them', async () => {
    const world = new World({ rounds: { minPeers: 3 } });
    const { peers, head } = await training(world, 3);
    const [honest, copycat] = peers;
    stall(copycat!);
    await copycat!.publish(copycat!.seal(announced(copycat!, head, 0.05)));
    expect((await honest!.submit(honest!.seal(announced(honest!, head, 0.05)))).code).toBe('accepted');
  });
});

test('a full disk of ours refuses no update: it is accepted once there is room', async () => {
  const world = new World({ rounds: { minPeers: 2 } });
  const { peers, head } = await training(world, 2);
  const [author] = peers;
  const envelope = author!.seal(announced(author!, head, 0.05));
  world.fetching = () => {
    throw new SwarmError('STORE_FULL', 'no space left');
  };
  await expect(author!.submit(envelope)).rejects.toMatchObject({ values: { code: 'STORE_FULL' } });
  world.fetching = () => {};
  expect((await author!.submit(envelope)).code).toBe('accepted');
});

test('the time that a payload gets while others wait grows with its size at the slowest rate', () => {
  expect(fetchTimeoutMs(0)).toBeGreaterThan(0);
  expect(fetchTimeoutMs(10 * MIN_FETCH_RATE) - fetchTimeoutMs(0)).toBe(10_000);
  expect(fetchTimeoutMs(UPDATE_BYTES)).toBeLessThan(5 * 60_000);
});
