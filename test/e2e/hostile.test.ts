import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import type { JobEvent } from '../../coordinator/api-types.ts';
import type { Head, Update } from '../../protocol/messages.ts';
import type { ReceiptCode } from '../../protocol/receipts.ts';
import { HostilePeer, payloadFields, sealRaw, withNaN } from './hostile-peer.ts';
import { chainFaults, TestSwarm } from './swarm.ts';

const rounds = { count: 8, localSteps: 60, preset: 'balanced', quorum: 0.6 };
const MEBIBYTE = 1024 * 1024;

function finalLoss(events: readonly JobEvent[]): number {
  const finished = events.find((event) => event.type === 'finished');
  return finished?.heldOutLoss ?? Number.NaN;
}

async function residentBytes(swarm: TestSwarm): Promise<number> {
  const { url } = await swarm.api();
  const text = await (await fetch(new URL('/metrics', url))).text();
  return Number(/^process_resident_memory_bytes (\S+)/m.exec(text)?.[1]);
}

it('a hostile peer is refused by name, harms nobody, and moves the result by less than 2 %', async () => {
  const clean = await TestSwarm.create();
  const cleanCoordinator = await (await clean.coordinator()).ready();
  await clean.createJob({ rounds });
  const cleanNodes = ['otter', 'heron'].map((name) => clean.node(name));
  const expected = finalLoss(await clean.untilFinished());
  await Promise.all([cleanCoordinator, ...cleanNodes].map((daemon) => daemon.kill()));

  const swarm = await TestSwarm.create();
  await (await swarm.coordinator()).ready();
  await swarm.createJob({ rounds: { ...rounds, minPeers: 3 } });
  const hostile = await HostilePeer.join({
    invite: swarm.invite,
    folder: swarm.folder,
    modelDir: join(swarm.folder, 'model'),
    lora: { rank: 4, alpha: 8 },
    signal: swarm.signal,
  });
  onTestFinished(() => hostile.stop());
  const heart = setInterval(() => void hostile.beat(), 1_000);
  onTestFinished(() => clearInterval(heart));
  for (const name of ['otter', 'heron']) swarm.node(name);

  type Attack = { name: string; bytes: (update: Update, head: Head) => Uint8Array; code: ReceiptCode };
  const changed = (change: (update: Update, head: Head) => Partial<Update>) => (update: Update, head: Head) =>
    hostile.sealed({ ...update, ...change(update, head) });
  const payload = (change: (bytes: Uint8Array) => Uint8Array) =>
    changed(({ inline }) => payloadFields(change(Uint8Array.from(inline!))));
  const attacks: Attack[] = [
    { name: 'garbage', bytes: () => new Uint8Array(300).fill(0xa5), code: 'malformed' },
    { name: 'not finite', bytes: (update) => sealRaw(withNaN(update), hostile.signer), code: 'malformed' },
    {
      name: 'oversized',
      bytes: changed(() => ({ payload: { digest: 'ab'.repeat(32), size: 60 * MEBIBYTE }, inline: null })),
      code: 'too-large',
    },
    {
      name: 'truncated',
      bytes: payload((bytes) => bytes.subarray(0, bytes.length - 40)),
      code: 'bad-payload',
    },
    {
      name: 'lying about size',
      bytes: changed(({ payload: p }) => ({ payload: { ...p, size: p.size - 1 } })),
      code: 'size-mismatch',
    },
    { name: 'indices out of bounds', bytes: payload((bytes) => bytes.fill(0xff, 40)), code: 'bad-payload' },
    { name: 'wrong round', bytes: changed(({ round }) => ({ round: round + 5 })), code: 'wrong-round' },
    { name: 'wrong parent', bytes: changed(() => ({ parent: 'cd'.repeat(32) })), code: 'wrong-parent' },
    {
      name: "others' rows",
      bytes: changed(({ end }) => ({ start: end, end: end + 1 })),
      code: 'not-assigned',
    },
    { name: 'another preset', bytes: changed(() => ({ preset: 'dense' })), code: 'wrong-preset' },
    {
      name: 'signed by nobody',
      bytes: (update) => {
        const bytes = hostile.sealed(update);
        bytes[bytes.length - 1]! ^= 1;
        return bytes;
      },
      code: 'bad-signature',
    },
  ];

  // Three attacks a round, then an update of perfect form and a thousand times the size, then another one.
  let round = 0;
  let before = 0;
  const scaled: { round: number; update: string }[] = [];
  while (round < rounds.count) {
    const head = await hostile.assignedHead(round);
    if (head.phase === 'finished') break;
    round = head.round;
    if (round === 2) before = await residentBytes(swarm);
    const update = hostile.update(head, 1);
    for (const { name, bytes, code } of attacks.splice(0, 3)) {
      const receipt = await hostile.submit(bytes(update, head));
      expect(receipt.code, `${name}: ${receipt.detail}`).toBe(code);
    }
    if (round === 6) {
      const old = hostile.overheard.find((heard) => heard.update.round === 2);
      if (old) expect((await hostile.submit(old.bytes)).code, 'replayed').toBe('wrong-round');
    }
    const huge = hostile.update(head, 1_000);
    const first = await hostile.submit(hostile.sealed(huge));
    scaled.push({ round, update: huge.payload.digest });
    expect(['accepted', 'late', 'outlier'], first.detail).toContain(first.code);
    if (first.code === 'accepted') {
      const second = await hostile.submit(hostile.sealed(hostile.update(head, 2_000)));
      expect(second.code, second.detail).toMatch(/duplicate|wrong-round/);
    }
    // Noise on the air too: nobody's gossip may suffer.
    for (let i = 0; i < 20; i++) {
      await hostile.network.publish(
        `/lora-swarm/1/${hostile.job}/updates`,
        new Uint8Array(2_000).fill(i + round),
      );
    }
  }
  expect(attacks, 'all attacks were made').toEqual([]);

  const events = await swarm.untilFinished();
  const checkpoints = await swarm.checkpoints();
  expect(chainFaults(checkpoints)).toEqual([]);
  expect(checkpoints.length).toBe(rounds.count + 1);
  const merged = checkpoints.flatMap(({ checkpoint }) => checkpoint.contributors);
  expect(merged.filter(({ peer }) => peer === hostile.signer.peerId)).toEqual([]);
  for (const { round: r } of scaled) {
    const told = events.filter(
      (e) => e.type === 'update' && e.peer === hostile.signer.peerId && e.round === r,
    );
    expect(told.map((e) => e.type === 'update' && e.code)).toContain('outlier');
  }
  const honest = events.filter(
    (e) => e.type === 'update' && e.peer !== hostile.signer.peerId && e.code !== 'accepted',
  );
  expect(honest, 'honest updates count').toEqual([]);

  expect(Math.abs(finalLoss(events) / expected - 1)).toBeLessThan(0.02);
  expect((await residentBytes(swarm)) - before).toBeLessThan(64 * MEBIBYTE);
}, 400_000);
