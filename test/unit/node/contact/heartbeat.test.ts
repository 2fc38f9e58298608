import { expect, test } from 'vitest';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { startHeartbeat } from '../../../../node/contact/heartbeat.ts';
import { JobKeys } from '../../../../node/contact/job-keys.ts';
import type { ContactDeps } from '../../../../node/contact/port.ts';
import { CLOCK_SKEW_MS, HEARTBEAT_INTERVAL_MS } from '../../../../protocol/limits.ts';
import { verifyMessage } from '../../../../protocol/signing.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';
import { testKeys, testSealing } from '../../../utils/swarm/job-keys.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';

function beating() {
  const clock = new ManualClock();
  const sent: number[] = [];
  const network = {
    signer: signerOf(1),
    traffic: () => ({ sent: 0, received: 0 }),
    publish: async (_topic: string, bytes: Uint8Array) => {
      const about = { kind: 'heartbeat', job: 'ab'.repeat(32), author: signerOf(1).peerId } as const;
      sent.push(verifyMessage('heartbeat', testSealing.open(bytes, about)).message.issuedAt);
      return 1;
    },
  };
  const deps = {
    randomBytes: (count: number) => new Uint8Array(count).fill(sent.length + 1),
    clock,
    network,
    trainer: { engine: 'none' },
    log: silentLogger,
  } as unknown as ContactDeps;
  const keys = new JobKeys({ job: 'ab'.repeat(32), self: signerOf(1).peerId }, testKeys());
  const pulse = {
    job: 'ab'.repeat(32),
    name: 'n',
    agent: 'a',
    round: 0,
    step: 0,
    steps: 0,
    tokensPerSecond: 0,
  };
  const loop = startHeartbeat(deps, keys, () => ({ ...pulse, state: 'awaiting' }));
  return { clock, sent, loop };
}

test('heartbeats carry ascending times when the clock is set back within the tolerated skew', () => {
  const { clock, sent, loop } = beating();
  clock.set(-CLOCK_SKEW_MS + 5_000);
  for (let i = 0; i < 5; i++) clock.advance(HEARTBEAT_INTERVAL_MS);
  expect(sent).toHaveLength(6);
  expect(sent.toSorted((a, b) => a - b)).toEqual(sent);
  expect(new Set(sent).size).toBe(6);
  loop.stop();
  expect(clock.due()).toEqual([]);
});

test('a corrected time is used at once when the clock was far ahead', () => {
  const { clock, sent, loop } = beating();
  clock.set(-3_600_000);
  clock.advance(HEARTBEAT_INTERVAL_MS);
  expect(sent.at(-1)).toBe(clock.now());
  loop.stop();
});

test('a change is sent soon, but not more often than every 500 ms', () => {
  const { clock, sent, loop } = beating();
  loop.beatSoon();
  loop.beatSoon();
  clock.advance(499);
  expect(sent).toHaveLength(1);
  clock.advance(1);
  expect(sent).toHaveLength(2);
  loop.stop();
});
