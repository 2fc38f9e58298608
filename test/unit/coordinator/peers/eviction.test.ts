import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  IDLE_ROUNDS,
  type Member,
  memberToEvict,
  RECENT_ROUNDS,
} from '../../../../coordinator/peers/eviction.ts';
import { ADMITTED_PEERS } from '../../../../coordinator/peers/membership.ts';
import { ScriptedPeer, training } from '../scripted-peer.ts';
import { World } from '../world.ts';

const ROUND = 100;

function seat(peer: string, changes: Partial<Member> = {}): Member {
  return {
    peer,
    joinedRound: ROUND,
    seenAt: 0,
    present: false,
    assigned: false,
    delivered: null,
    ...changes,
  };
}

describe('memberToEvict', () => {
  test('chooses the member that has been silent longest, of those that never delivered', () => {
    const seats = [
      seat('worked long ago', { delivered: 1, seenAt: 1 }),
      seat('silent', { seenAt: 5 }),
      seat('longer silent', { seenAt: 2 }),
      seat('there', { present: true, joinedRound: 0, seenAt: 0 }),
    ];
    expect(memberToEvict(seats, ROUND)).toBe('longer silent');
  });

  test('chooses next a present idle member, then an absent one that delivered long ago', () => {
    const idle = seat('idle', { present: true, joinedRound: ROUND - IDLE_ROUNDS, seenAt: 9 });
    const past = seat('past', { delivered: ROUND - RECENT_ROUNDS - 1 });
    const here = seat('here', { delivered: 1, present: true });
    expect(memberToEvict([past, here, idle], ROUND)).toBe('idle');
    expect(memberToEvict([here, past], ROUND)).toBe('past');
    expect(memberToEvict([here], ROUND)).toBeNull();
  });

  test('never chooses a member that is assigned, delivered lately or has just joined', () => {
    const any: fc.Arbitrary<Member> = fc.record({
      peer: fc.uuid(),
      joinedRound: fc.nat(ROUND),
      seenAt: fc.nat(),
      present: fc.boolean(),
      assigned: fc.boolean(),
      delivered: fc.option(fc.nat(ROUND)),
    });
    fc.assert(
      fc.property(fc.array(any), (seats) => {
        const taken = seats.find(({ peer }) => peer === memberToEvict(seats, ROUND));
        if (!taken) return;
        expect(taken.assigned).toBe(false);
        expect(taken.delivered ?? 0).toBeLessThan(ROUND - RECENT_ROUNDS);
        if (taken.present) expect(taken.joinedRound).toBeLessThanOrEqual(ROUND - IDLE_ROUNDS);
      }),
    );
  });
});

describe('a full job', () => {
  test('keeps the members that train under a flood of newcomers, and still admits a newcomer', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    const { peers, head } = await training(world, 2);
    const [worker, awaited] = peers as [ScriptedPeer, ScriptedPeer];
    expect((await worker.submit(worker.seal(worker.update(head)))).code).toBe('accepted');
    const asked = { invite: null, name: '', agent: '', engine: '', sentAt: world.clock.now() };
    // A member that never takes work has no claim to its place, although it sends heartbeats.
    const held = new ScriptedPeer(4, world);
    await held.join();
    await held.heartbeat('joining', { hold: { reason: 'memory', detail: '' } });
    await world.pass(1_000);
    // More newcomers join than there are places. Each of them leaves at once.
    for (let i = 0; i < ADMITTED_PEERS + 100; i++) {
      world.run.members.join(`12D3-stranger-${i}`, asked);
      world.run.members.liveness.leave(`12D3-stranger-${i}`);
    }
    const newcomer = new ScriptedPeer(3, world);
    await newcomer.join();
    const { members } = world.run;
    expect(members.list.all()).toHaveLength(ADMITTED_PEERS);
    expect(world.store.peers.all(world.toy.job)).toHaveLength(ADMITTED_PEERS);
    for (const peer of [worker, awaited, newcomer]) expect(members.list.has(peer.id)).toBe(true);
    expect(members.list.has(held.id)).toBe(false);
    // An evicted peer may join again.
    expect(members.list.has('12D3-stranger-0')).toBe(false);
    world.run.members.join('12D3-stranger-0', asked);
    expect(members.list.has('12D3-stranger-0')).toBe(true);
  });
});
