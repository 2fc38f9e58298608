import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { decryptHead, keyIdOf } from '../../../../protocol/access/job-key.ts';
import type { JobKeysMessage } from '../../../../protocol/access/job-keys-message.ts';
import { jobTopic } from '../../../../protocol/job/topics.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { ScriptedPeer } from '../scripted-peer.ts';
import { World } from '../world.ts';

/** Returns bytes that differ from call to call. */
function differentBytes(): (count: number) => Uint8Array {
  let calls = 0;
  return (count) => new Uint8Array(createHash('sha512').update(`${++calls}`).digest().subarray(0, count));
}

async function closedWorld(): Promise<World> {
  const options = { admission: { kind: 'invite' }, token: 'secret', rounds: { minPeers: 2 } } as const;
  return new World({ ...options, randomBytes: differentBytes() }).start();
}

/** Creates a personal invite for one machine. */
function personalInvite({ run }: World) {
  return run.members.invites.create({ name: 'one', role: 'contributor', uses: 1, expiresAt: null });
}

/** Starts a closed job whose first round is open. */
async function training(): Promise<{ world: World; peer: ScriptedPeer; other: ScriptedPeer }> {
  const world = await closedWorld();
  const [peer, other] = [1, 2].map((number) => new ScriptedPeer(number, world));
  for (const one of [peer!, other!]) await one.join('secret');
  await world.until(() => world.run.driver.state.phase === 'training');
  return { world, peer: peer!, other: other! };
}

function keysOf(peer: ScriptedPeer): Promise<JobKeysMessage> {
  return peer.ask('head', { job: peer.job }).then(({ keys }) => keys);
}

/** Records the heads that the coordinator publishes, as they are on the wire. */
function wiretap(world: World): Uint8Array[] {
  const heads: Uint8Array[] = [];
  world.network.onMessage = ({ kind, bytes }) => {
    if (kind === 'heads') heads.push(bytes);
  };
  return heads;
}

describe('the key of heads', () => {
  test('lets members read every head', async () => {
    const world = await closedWorld();
    const heads = wiretap(world);
    const peers = [1, 2].map((number) => new ScriptedPeer(number, world));
    for (const peer of peers) await peer.join('secret');
    await world.until(() => world.run.driver.state.phase === 'training');
    const keys = await keysOf(peers[0]!);
    expect(heads.length).toBeGreaterThan(0);
    const { job } = world.toy;
    for (const head of heads)
      expect(verifyMessage('head', decryptHead(head, job, keys)).message.job).toBe(job);
    expect(Buffer.from(heads.at(-1)!).includes(peers[0]!.id)).toBe(false);
  });

  test('changes when a member is removed, who then reads no later head', async () => {
    const world = await closedWorld();
    const { invite, token } = personalInvite(world);
    const [kept, removed] = [1, 2].map((number) => new ScriptedPeer(number, world));
    await kept!.join('secret');
    await removed!.join(token);
    await world.until(() => world.run.driver.state.phase === 'training');
    const before = await keysOf(removed!);
    const heads = wiretap(world);
    world.run.members.removals.revokeInvite(invite.id);
    await world.until(() => heads.length > 0, 'a head after the removal');
    await expect(keysOf(removed!)).rejects.toMatchObject({ code: 'RPC_REFUSED' });
    const now = await keysOf(kept!);
    expect(now.seal).toEqual(before.seal);
    expect(now.key).not.toEqual(before.key);
    const { job } = world.toy;
    for (const head of heads) {
      expect(decryptHead(head, job, now).length).toBeGreaterThan(0);
      const old = { id: keyIdOf(head)!, key: before.key };
      expect(() => decryptHead(head, job, old)).toThrow(withCode('HEAD_UNREADABLE'));
    }
  });

  test('is not given to a banned member, although its invite is still valid', async () => {
    const world = await closedWorld();
    const { token } = personalInvite(world);
    const banned = new ScriptedPeer(1, world);
    await banned.join(token);
    const { ledger } = world.run;
    const ban = { cause: 'operator', job: null, reason: 'a test', until: null } as const;
    world.run.driver.transact((outbox) => ledger.bans.impose(ledger.standings.who(banned.id), ban, outbox));
    await world.pass(5_000);
    await expect(keysOf(banned)).rejects.toMatchObject({ code: 'RPC_REFUSED' });
    expect(world.run.mayRead(banned.id)).toBe(false);
  });

  test('and the key of seals stay the same over a restart', async () => {
    const world = await closedWorld();
    const peer = new ScriptedPeer(1, world);
    await peer.join('secret');
    const before = await keysOf(peer);
    expect(() => world.kill()).toThrow();
    await world.start();
    expect(await keysOf(peer)).toEqual(before);
  });

  test('is made when a job of an older version has none', async () => {
    const world = await closedWorld();
    const peer = new ScriptedPeer(1, world);
    await peer.join('secret');
    const before = await keysOf(peer);
    expect(() => world.kill()).toThrow();
    const { find } = world.store.keys;
    world.store.keys.find = () => null;
    await world.start();
    world.store.keys.find = find;
    const after = await keysOf(peer);
    expect(after.key).not.toEqual(before.key);
    expect(world.store.keys.find(world.toy.job)?.key).toEqual(after.key);
  });
});

describe('a message of a node', () => {
  test('that is not sealed, or sealed by another author, is rejected', async () => {
    const { world, peer, other } = await training();
    const topics = (['updates', 'peers'] as const).map((channel) => jobTopic(world.toy.job, channel));
    const update = peer.seal(peer.update(await peer.head()));
    const messages = [
      update,
      other.sealed(update, 'update'),
      peer.sealed(update, 'heartbeat'),
      Uint8Array.of(1),
    ];
    for (const message of messages) await peer.host.publish(topics[0]!, message);
    await peer.host.publish(topics[1]!, peer.sealed(update, 'update'));
    await world.pass(100);
    expect(world.network.rejected).toHaveLength(messages.length + 1);
    expect(world.run.driver.state.current?.delivered).toEqual([]);
    await peer.publish(update);
    expect(world.run.driver.state.current?.delivered).toEqual([peer.id]);
  });

  test('that is signed by another key than that of its author is a copy', async () => {
    const { world, peer, other } = await training();
    const copied = signMessage('update', peer.update(await peer.head()), peer.signer);
    await other.publish(copied);
    expect(world.measured).toContainEqual({ type: 'refusal', code: 'duplicate' });
  });
});
