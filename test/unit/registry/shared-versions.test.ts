import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, it, onTestFinished } from 'vitest';
import { Pauses, servesNoFiles } from '../../../node/limits/pauses.ts';
import { proveMembership } from '../../../protocol/access/job-key.ts';
import { decodeTicket } from '../../../protocol/access/ticket.ts';
import type { Registry } from '../../../registry/registry.ts';
import { endShare, keepShare, SharedVersions } from '../../../registry/shared-versions.ts';
import type { ManualClock } from '../../utils/manual-clock.ts';
import { addSmall, openTestRegistry } from '../../utils/registry/registry.ts';
import { withCode } from '../../utils/source/codes.ts';
import { recordingLog } from '../../utils/swarm/hosts.ts';
import { signerOf } from '../../utils/swarm/signers.ts';

const ADDRESS = `/ip4/127.0.0.1/tcp/4001/p2p/${signerOf(7).peerId}`;
const ENDS = { requester: signerOf(2).peerId, holder: signerOf(7).peerId };

function daemonOf({ home }: Pick<Registry, 'home'>, clock: ManualClock, isPaused = () => false) {
  const logged: { action: string; fields: object }[] = [];
  const log = recordingLog(logged);
  const shared = new SharedVersions({ home }, { clock, log, self: ENDS.holder, isPaused });
  onTestFinished(() => shared.stop());
  return { shared, logged };
}

/** Returns whether a peer with a ticket may fetch a blob. */
function mayFetch(shared: SharedVersions, ticket: string, digest: string): boolean {
  const { version, key } = decodeTicket(ticket);
  const proof = proveMembership(version, { id: 1, key }, ENDS);
  return shared.mayFetch(ENDS.requester, digest, proof);
}

it('serves the files and the manifest of a shared version to peers with its ticket only', async () => {
  const { registry, clock } = await openTestRegistry();
  const version = await addSmall(registry, 'demo', 1);
  const other = await addSmall(registry, 'demo', 2);
  const { shared } = daemonOf(registry, clock);
  const ticket = await keepShare(registry, version, [ADDRESS]);
  const [file] = version.manifest.files;
  const weights = version.manifest.files.find(({ path }) => path.endsWith('.safetensors'))!;
  expect(mayFetch(shared, ticket, weights.digest)).toBe(false);
  await shared.look();
  const { envelope } = decodeTicket(ticket);
  for (const digest of [weights.digest, envelope.digest]) {
    expect(mayFetch(shared, ticket, digest)).toBe(true);
    expect(shared.mayFetch(ENDS.requester, digest, null)).toBe(false);
  }
  const bytes = new Uint8Array(envelope.size);
  const reader = await shared.reader(envelope.digest);
  await reader!.readInto(0, [bytes.subarray(0, 5), bytes.subarray(5)]);
  expect([reader!.size, Buffer.from(bytes)]).toEqual([
    envelope.size,
    Buffer.from(registry.envelope(version)),
  ]);
  const opened = await shared.reader(file!.digest);
  expect(opened!.size).toBe(file!.size);
  await opened!.close();

  // A peer with the ticket may not fetch files of a version that is not shared, and a proof with another key is refused.
  const hidden = other.manifest.files.find(({ path }) => path.endsWith('.safetensors'))!;
  expect(mayFetch(shared, ticket, hidden.digest)).toBe(false);
  const wrong = proveMembership(version.digest, { id: 1, key: new Uint8Array(32) }, ENDS);
  expect(shared.mayFetch(ENDS.requester, weights.digest, wrong)).toBe(false);
});

it('a ticket stays valid when the version is shared again, and ends with the share or the version', async () => {
  const { registry, clock } = await openTestRegistry();
  const version = await addSmall(registry, 'demo', 1);
  const { shared } = daemonOf(registry, clock);
  const ticket = await keepShare(registry, version, [ADDRESS]);
  expect(await keepShare(registry, version, [ADDRESS])).toBe(ticket);
  const digest = version.manifest.files[0]!.digest;
  const isServed = async (): Promise<boolean> => {
    await shared.look();
    return mayFetch(shared, ticket, digest);
  };
  expect(await isServed()).toBe(true);
  endShare(registry, version);
  expect(await isServed()).toBe(false);
  expect(() => endShare(registry, version)).toThrow(withCode('SHARE_UNKNOWN', { version: 'demo:v1' }));

  const again = await keepShare(registry, version, [ADDRESS]);
  expect(again).not.toBe(ticket);
  await shared.look();
  await registry.remove('demo:v1');
  await shared.look();
  expect(mayFetch(shared, again, digest)).toBe(false);
  // A version that is added again is not shared automatically.
  await addSmall(registry, 'demo', 1);
  await shared.look();
  expect(mayFetch(shared, again, digest)).toBe(false);
});

it('serves nothing after 30 s in which the registry cannot be read, and serves again when it can', async () => {
  const { registry, clock, home } = await openTestRegistry();
  const version = await addSmall(registry, 'demo', 1);
  const { shared, logged } = daemonOf(registry, clock);
  const ticket = await keepShare(registry, version, [ADDRESS]);
  const digest = version.manifest.files[0]!.digest;
  const isServed = async (): Promise<boolean> => {
    await shared.look();
    return mayFetch(shared, ticket, digest);
  };
  expect(await isServed()).toBe(true);
  const database = new DatabaseSync(join(home, 'registry.sqlite'));
  onTestFinished(() => database.close());
  database.exec('ALTER TABLE shares RENAME TO hidden');
  clock.advance(29_000);
  expect(await isServed()).toBe(true);
  clock.advance(1_000);
  expect(await isServed()).toBe(false);
  expect(logged.map(({ action }) => action)).toEqual(['shares-unreadable']);
  database.exec('ALTER TABLE hidden RENAME TO shares');
  expect(await isServed()).toBe(true);
});

it('serves nothing when the database of the registry was deleted', async () => {
  const { registry, clock, home } = await openTestRegistry();
  const version = await addSmall(registry, 'demo', 1);
  const { shared } = daemonOf(registry, clock);
  const ticket = await keepShare(registry, version, [ADDRESS]);
  const digest = version.manifest.files[0]!.digest;
  await shared.look();
  expect(mayFetch(shared, ticket, digest)).toBe(true);
  await rename(join(home, 'registry.sqlite'), join(home, 'moved.sqlite'));
  await shared.look();
  expect(mayFetch(shared, ticket, digest)).toBe(false);
});

it('waits for a registry that does not exist yet, and logs once that it cannot be read', async () => {
  const { clock, home } = await openTestRegistry();
  const nowhere = daemonOf({ home: `${home}-none` }, clock);
  await nowhere.shared.look();
  expect(nowhere.logged).toEqual([]);
  await mkdir(`${home}-damaged`);
  await writeFile(join(`${home}-damaged`, 'registry.sqlite'), 'not a database'.repeat(100));
  const { shared, logged } = daemonOf({ home: `${home}-damaged` }, clock);
  await shared.look();
  await shared.look();
  expect(logged.map(({ action }) => action)).toEqual(['shares-unreadable']);
});

it('serves no version while the traffic of the month is used up', async () => {
  const { registry, clock } = await openTestRegistry();
  const version = await addSmall(registry, 'demo', 1);
  const pauses = new Pauses();
  const { shared } = daemonOf(registry, clock, () => servesNoFiles(pauses));
  const ticket = await keepShare(registry, version, [ADDRESS]);
  await shared.look();
  const { envelope } = decodeTicket(ticket);
  const pause = { text: '', until: null };
  for (const reason of ['traffic', 'battery', null] as const) {
    pauses.set(reason && { reason, ...pause });
    expect(mayFetch(shared, ticket, envelope.digest), `pause: ${reason}`).toBe(reason !== 'traffic');
  }
});
