import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isSwarmError } from '../../../../common/errors.ts';
import type { InviteRequest } from '../../../../coordinator/peers/invites.ts';
import type { StoredInvite } from '../../../../coordinator/store/store.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { ScriptedPeer, strangers, training } from '../scripted-peer.ts';
import { COORDINATOR, World, type WorldOptions } from '../world.ts';

const BY_INVITE: WorldOptions = { admission: { kind: 'invite' }, token: 'shared token' };

function create(world: World, request: Partial<InviteRequest> = {}): { invite: StoredInvite; token: string } {
  return world.run.members.invites.create({
    name: null,
    role: 'contributor',
    uses: 1,
    expiresAt: null,
    ...request,
  });
}

/** Returns the code with which a request to join is refused; null if the peer is admitted. */
async function refusal(joining: Promise<unknown>): Promise<string | null> {
  return joining.then(
    () => null,
    (error: unknown) => {
      if (isSwarmError(error, 'RPC_REFUSED')) return String(error.values.code);
      throw error;
    },
  );
}

/** Kills the coordinator and starts it again. */
async function restart(world: World): Promise<void> {
  expect(() => world.kill()).toThrow();
  await world.start();
}

/** Returns a function that says how many transactions were made since this call. */
function countTransactions({ store }: World): () => number {
  const transact = store.transaction.bind(store);
  let depth = 0;
  let count = 0;
  store.transaction = (work) => {
    if (depth++ === 0) count++;
    try {
      return transact(work);
    } finally {
      depth--;
    }
  };
  return () => count;
}

function peersOf(world: World, count: number): ScriptedPeer[] {
  return Array.from({ length: count }, (_, i) => new ScriptedPeer(i + 1, world));
}

describe('a personal invite', () => {
  test('admits the first machine that uses it, as often as it asks, and no other', async () => {
    const world = await new World(BY_INVITE).start();
    const { invite, token } = create(world, { name: 'ada' });
    const [a, b] = peersOf(world, 2) as [ScriptedPeer, ScriptedPeer];
    expect(await refusal(a.join(token))).toBeNull();
    expect(world.run.members.list.get(a.id)).toMatchObject({ invite: invite.id, role: 'contributor' });
    expect(await refusal(b.join(token))).toBe('INVITE_USED');
    expect(await refusal(a.join(token))).toBeNull();
    // The machine is known by its key, so it needs the token only once.
    expect(await refusal(a.join())).toBeNull();
    expect(world.run.members.list.all()).toHaveLength(1);
    // Strangers leave nothing in the store.
    expect(world.store.invites.bindings(world.toy.job)).toHaveLength(1);
  });

  test('is kept as a digest', async () => {
    const world = await new World(BY_INVITE).start();
    const { token } = create(world);
    expect(JSON.stringify(world.store.invites.all(world.toy.job))).not.toContain(token);
  });

  test('is used up once, and stays bound, when the coordinator restarts or the member loses its place', async () => {
    const world = await new World(BY_INVITE).start();
    const { invite, token } = create(world);
    const [a, b] = peersOf(world, 2) as [ScriptedPeer, ScriptedPeer];
    await a.join(token);
    world.store.peers.remove(world.toy.job, a.id);
    await restart(world);
    expect(world.run.members.list.all()).toEqual([]);
    expect(await refusal(b.join(token))).toBe('INVITE_USED');
    expect(await refusal(a.join())).toBeNull();
    expect(world.run.members.list.get(a.id)?.invite).toBe(invite.id);
  });

  test('admits no further machine after its expiry, by the clock of the coordinator', async () => {
    const world = await new World(BY_INVITE).start();
    const expiresAt = world.clock.now() + 60_000;
    const { token } = create(world, { uses: 2, expiresAt });
    const [a, b] = peersOf(world, 2) as [ScriptedPeer, ScriptedPeer];
    expect(await refusal(a.join(token))).toBeNull();
    await world.pass(61_000);
    expect(await refusal(b.join(token))).toBe('INVITE_EXPIRED');
    expect(await refusal(a.join(token))).toBeNull();
  });

  test('gives person and role in an open job and in a job with a list of peers too', async () => {
    for (const admission of [{ kind: 'open' }, { kind: 'peers', peers: [] }] as const) {
      const world = await new World({ admission }).start();
      const { invite, token } = create(world, { role: 'observer' });
      const [a] = peersOf(world, 1) as [ScriptedPeer];
      expect(await refusal(a.join(token))).toBeNull();
      expect(world.run.members.list.get(a.id)).toMatchObject({ invite: invite.id, role: 'observer' });
    }
  });

  test('of another person replaces the invite of a member', async () => {
    const world = await new World(BY_INVITE).start();
    const [first, second] = [create(world), create(world, { role: 'observer' })];
    const [a] = peersOf(world, 1) as [ScriptedPeer];
    await a.join('shared token');
    expect(world.run.members.list.get(a.id)?.invite).toBeNull();
    await a.join(first.token);
    expect(world.run.members.list.get(a.id)?.invite).toBe(first.invite.id);
    await a.join(second.token);
    expect(world.run.members.list.get(a.id)).toMatchObject({ invite: second.invite.id, role: 'observer' });
  });

  test('counts a peer that only reads as a use', async () => {
    const world = await new World(BY_INVITE).start();
    const { invite, token } = create(world);
    const [reader, other] = peersOf(world, 2) as [ScriptedPeer, ScriptedPeer];
    const { job } = world.toy;
    expect(world.run.members.mayRead(reader.id)).toBe(false);
    await reader.ask('manifest', { job, invite: token });
    expect(world.run.members.mayRead(reader.id)).toBe(true);
    expect(world.run.members.list.all()).toEqual([]);
    expect(await refusal(other.ask('manifest', { job, invite: token }))).toBe('INVITE_USED');
    world.run.members.removals.revokeInvite(invite.id);
    expect(world.run.members.mayRead(reader.id)).toBe(false);
    expect(await refusal(reader.ask('manifest', { job, invite: token }))).toBe('INVITE_REVOKED');
  });

  test('whose reader is banned admits no other machine, and the reader can read no later head', async () => {
    const world = await new World(BY_INVITE).start();
    const { token } = create(world, { uses: 3 });
    const [reader, second, other] = peersOf(world, 3) as [ScriptedPeer, ScriptedPeer, ScriptedPeer];
    const { job } = world.toy;
    for (const peer of [reader, second]) await peer.ask('manifest', { job, invite: token });
    const { keys } = await reader.ask('head', { job });
    world.coordinator.ban(reader.id, { job: null, reason: '', until: null });
    expect(world.run.context.keys.message().id).toBe(keys.id + 1);
    expect(reader.host.peers()).toEqual([]);
    expect(second.host.peers()).toEqual([]);
    for (const peer of [reader, second, other]) expect(await refusal(peer.join(token))).toBe('BANNED');
    expect(await refusal(reader.ask('head', { job }))).toBe('NOT_ADMITTED');
  });

  describe.each(['ban', 'revocation'] as const)('that a reader has used: a %s', (cause) => {
    async function readerWorld() {
      const world = await new World(BY_INVITE).start();
      const { invite, token } = create(world);
      const [reader] = peersOf(world, 1) as [ScriptedPeer];
      await reader.ask('manifest', { job: world.toy.job, invite: token });
      return {
        world,
        reader,
        keyId: () => world.store.keys.find(world.toy.job)!.id,
        shutOut: () => {
          if (cause === 'revocation') world.run.members.removals.revokeInvite(invite.id);
          else world.coordinator.ban(reader.id, { job: null, reason: '', until: null });
        },
      };
    }

    test('has changed the key of heads, even if the coordinator is killed immediately afterwards', async () => {
      const { world, reader, keyId, shutOut } = await readerWorld();
      const before = keyId();
      // The coordinator is killed in its first action after the transaction.
      world.run.context.deps.network.disconnect = () => world.kill();
      expect(shutOut).toThrow();
      await world.start();
      expect(keyId()).toBe(before + 1);
      expect(world.run.members.mayRead(reader.id)).toBe(false);
    });

    test('is not recorded if the coordinator is killed before the key has changed', async () => {
      const { world, reader, keyId, shutOut } = await readerWorld();
      const before = keyId();
      const { put } = world.store.keys;
      world.store.keys.put = () => world.kill();
      expect(shutOut).toThrow();
      world.store.keys.put = put;
      await world.start();
      expect(keyId()).toBe(before);
      expect(world.run.members.mayRead(reader.id)).toBe(true);
    });
  });

  test('is found by its name, its id and the beginning of its id', async () => {
    const world = await new World().start();
    const { invite } = create(world, { name: 'ada' });
    const { invites } = world.run.members;
    for (const text of ['ada', invite.id, invite.id.slice(0, 4)]) expect(invites.find(text)).toBe(invite);
    expect(invites.find('shared')).toBeNull();
    for (const text of ['ad', invite.id.slice(0, 3), 'zzzz']) {
      expect(() => invites.find(text)).toThrow(withCode('INVITE_UNKNOWN'));
    }
    for (const name of ['ada', 'shared']) {
      expect(() => create(world, { name })).toThrow(withCode('INVITE_EXISTS'));
    }
    world.run.members.removals.revokeInvite(invite.id);
    create(world, { name: 'ada' });
  });

  test('admits at most as many machines as it has uses, and a bound one always', async () => {
    const world = await new World(BY_INVITE).start();
    const { members } = world.run;
    const step = fc.record({
      peer: fc.integer({ min: 0, max: 5 }),
      waitMs: fc.integer({ min: 0, max: 600 }),
    });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3 }),
        fc.option(fc.integer({ min: 0, max: 2_000 })),
        fc.array(step, { maxLength: 20 }),
        fc.nat(),
        (uses, livesMs, steps, salt) => {
          let now = world.clock.now();
          const expiresAt = livesMs === null ? null : now + livesMs;
          const { invite, token } = create(world, { uses, expiresAt });
          const admitted = new Set<string>();
          for (const { peer: number, waitMs } of steps) {
            now += waitMs;
            world.wrongMs = now - world.clock.now();
            const peer = `${salt}-${invite.id}-${number}`;
            const mayJoin =
              admitted.has(peer) || (admitted.size < uses && (expiresAt === null || now <= expiresAt));
            const join = (): void => members.invites.bind(peer, members.invites.check(peer, token, null));
            if (mayJoin) join();
            else expect(join).toThrow();
            if (mayJoin) admitted.add(peer);
            expect([...members.invites.boundTo(invite.id).keys()].sort()).toEqual([...admitted].sort());
          }
          expect(admitted.size).toBeLessThanOrEqual(uses);
          world.wrongMs = 0;
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe('a revoked invite', () => {
  test('removes its members, closes their connections and admits them no more, also after a restart', async () => {
    const world = await new World({ ...BY_INVITE, rounds: { minPeers: 2 } }).start();
    const { invite, token } = create(world);
    const [a, b] = peersOf(world, 2) as [ScriptedPeer, ScriptedPeer];
    await a.join(token);
    await b.join('shared token');
    world.run.members.removals.revokeInvite(invite.id);
    await world.pass(1_000);
    expect(a.host.peers()).toEqual([]);
    expect(b.host.peers()).toHaveLength(1);
    expect(world.run.members.list.has(a.id)).toBe(false);
    expect(world.run.members.list.has(b.id)).toBe(true);
    for (const isRestarted of [false, true]) {
      if (isRestarted) {
        await restart(world);
      }
      // The key is not admitted with its own token, without a token, or with the shared token.
      for (const shown of [token, null, 'shared token']) {
        expect(await refusal(a.join(shown))).toBe('INVITE_REVOKED');
      }
      const { job } = world.toy;
      expect(await refusal(a.ask('head', { job }))).toBe('INVITE_REVOKED');
      expect(await refusal(a.ask('receipt', { job, update: 'ab'.repeat(32) }))).toBe('INVITE_REVOKED');
      await a.heartbeat('awaiting');
      expect(world.run.members.liveness.get(a.id)).toBeNull();
    }
    // The operator may give the same person a new invite.
    expect(await refusal(a.join(create(world).token))).toBeNull();
  });

  test('takes the update of the open round out of it, and the round does not wait for its author', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    const { peers, head } = await training(world, 3);
    const [a, b, c] = peers as [ScriptedPeer, ScriptedPeer, ScriptedPeer];
    const { invite, token } = create(world);
    await a.join(token);
    const receipt = await a.submit(a.seal(a.update(head)));
    expect(receipt.code).toBe('accepted');
    await b.submit(b.seal(b.update(head)));
    world.run.members.removals.revokeInvite(invite.id);
    const { current } = world.run.driver.state;
    expect(current).toMatchObject({ delivered: [b.id], excluded: [a.id] });
    await c.submit(c.seal(c.update(head)));
    await world.until(() => world.run.record.checkpoint.checkpoint.round === head.round, 'the checkpoint');
    const { contributors } = world.run.record.checkpoint.checkpoint;
    expect(contributors.map(({ peer }) => peer).sort()).toEqual([b.id, c.id].sort());
    // An event tells the operator the reason.
    const events = world.store.events.after(world.toy.job, 0, 1000);
    expect(events).toContainEqual(
      expect.objectContaining({ type: 'peer-lost', peer: a.id, reason: 'revoked' }),
    );
    expect(events).toContainEqual(
      expect.objectContaining({ type: 'update-undone', peer: a.id, code: 'not-admitted' }),
    );
  });

  test('leaves the updates of a round that is being merged to one person', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    const { peers, head } = await training(world, 6);
    const { invite, token } = create(world, { uses: 3 });
    const own = peers.slice(0, 3);
    for (const peer of own) await peer.join(token);
    world.failpoint = (name) => {
      if (name === 'scored') world.run.members.removals.revokeInvite(invite.id);
    };
    for (const peer of peers) await peer.submit(peer.seal(peer.update(head)));
    await world.until(() => world.run.record.checkpoint.checkpoint.round === head.round, 'the checkpoint');
    const { contributors } = world.run.record.checkpoint.checkpoint;
    const weightOf = (id: string): number => contributors.find(({ peer }) => peer === id)!.weight;
    expect(own.reduce((sum, { id }) => sum + weightOf(id), 0)).toBeCloseTo(2 * weightOf(peers[3]!.id), 3);
  });

  test('is out of the open round after a kill too', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    const { peers, head } = await training(world, 3);
    const [a] = peers as [ScriptedPeer];
    const { invite, token } = create(world);
    await a.join(token);
    await a.submit(a.seal(a.update(head)));
    // Records a revocation, as if the coordinator were killed right after that, before it could remove the member.
    world.store.invites.revoke(world.toy.job, invite.id, world.clock.now());
    await restart(world);
    expect(world.run.members.list.has(a.id)).toBe(false);
    expect(world.run.driver.state.current).toMatchObject({ delivered: [], excluded: [a.id] });
    await restart(world);
    expect(world.run.driver.state.current).toMatchObject({ delivered: [], excluded: [a.id] });
    expect(Object.keys(world.run.driver.state.present)).not.toContain(a.id);
  });

  test('makes later messages of its members count for nothing', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    const { peers, head } = await training(world, 2);
    const [a, b] = peers as [ScriptedPeer, ScriptedPeer];
    const { invite, token } = create(world);
    await a.join(token);
    world.run.members.removals.revokeInvite(invite.id);
    const receipt = await a.submit(a.seal(a.update(head)));
    expect(receipt.code).toBe('not-admitted');
    await a.publish(a.seal(a.update(head)));
    await a.heartbeat('training');
    expect(world.run.driver.state.current?.delivered).toEqual([]);
    expect(world.run.members.liveness.get(a.id)).toBeNull();
    // The job is open, so all peers except the revoked one may fetch its blobs.
    const [blob] = world.store.blobs.usesOf(sha256(world.toy.blobs[0]!));
    expect(blob?.job).toBe(world.toy.job);
    const fetch = (peer: ScriptedPeer): Promise<void> =>
      world.settle(
        peer.host.fetchBlob(
          { digest: sha256(world.toy.blobs[0]!), size: world.toy.blobs[0]!.byteLength },
          { holders: [COORDINATOR.peerId], signal: new AbortController().signal },
        ),
      );
    await expect(fetch(a)).rejects.toMatchObject({ code: 'BLOB_UNAVAILABLE' });
    await fetch(b);
    expect(world.store.updates.find(world.toy.job, head.round, a.id)).toBeNull();
  });

  test('that was shared admits no peer, and personal invites still do', async () => {
    const world = await new World(BY_INVITE).start();
    const { token } = create(world);
    const [a, b, c] = peersOf(world, 3) as [ScriptedPeer, ScriptedPeer, ScriptedPeer];
    await a.join('shared token');
    await b.join(token);
    world.run.members.removals.revokeInvite(null);
    expect(world.run.members.list.all().map(({ peer }) => peer)).toEqual([b.id]);
    expect(await refusal(a.join('shared token'))).toBe('INVITE_REVOKED');
    expect(await refusal(a.join())).toBe('NOT_ADMITTED');
    await restart(world);
    expect(await refusal(c.join('shared token'))).toBe('INVITE_REVOKED');
    expect(await refusal(b.join())).toBeNull();
    expect(await refusal(c.join(create(world).token))).toBeNull();
  });

  test('removes all its members in one transaction', async () => {
    const world = await new World(BY_INVITE).start();
    const about = { invite: 'shared token', name: '', agent: '', engine: '', sentAt: world.clock.now() };
    for (const { peer } of strangers(world, 50)) world.run.members.join(peer, about);
    const transactions = countTransactions(world);
    world.run.members.removals.revokeInvite(null);
    expect(world.store.peers.all(world.toy.job)).toEqual([]);
    // One transaction records the revocation and the new key, and the other one removes the members.
    expect(transactions()).toBe(2);
  });

  test('that is shared has no effect in a job that needs none, which the operator hears', async () => {
    const world = await new World().start();
    expect(() => world.run.members.removals.revokeInvite(null)).toThrow(withCode('INVITE_WITHOUT_TOKEN'));
  });
});

describe('an observer', () => {
  test('is a member that gets no work, and whose updates are refused', async () => {
    const world = await new World({ ...BY_INVITE, rounds: { minPeers: 1 } }).start();
    const { token } = create(world, { role: 'observer' });
    const [observer, trainer] = peersOf(world, 2) as [ScriptedPeer, ScriptedPeer];
    await observer.join(token);
    await world.pass(20_000);
    await observer.heartbeat('awaiting');
    expect(world.run.driver.state.phase).toBe('waiting');
    await trainer.join('shared token');
    await world.until(() => world.run.driver.state.phase === 'training', 'the first round');
    const head = await observer.head();
    expect(head.assignments.map(({ peer }) => peer)).toEqual([trainer.id]);
    const receipt = await observer.submit(observer.seal(observer.update(head)));
    expect(receipt.code).toBe('not-assigned');
    expect(world.run.members.mayRead(observer.id)).toBe(true);
  });

  test('that was a contributor gets no more work, and gets work again as a contributor', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    const { peers } = await training(world, 2);
    const [a] = peers as [ScriptedPeer];
    await a.join(create(world, { role: 'observer' }).token);
    expect(Object.keys(world.run.driver.state.present)).not.toContain(a.id);
    await a.join(create(world).token);
    expect(Object.keys(world.run.driver.state.present)).toContain(a.id);
  });
});
