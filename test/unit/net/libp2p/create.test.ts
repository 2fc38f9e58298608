import { expect, it, onTestFinished, vi } from 'vitest';
import { eventually } from '../../../utils/eventually.ts';
import { soon, startRaw } from '../../../utils/swarm/hosts.ts';

const HOUR_MS = 3_600_000;
const PING_INTERVAL_MS = 10_000;

it.each([-HOUR_MS, HOUR_MS])('keeps a connection if the clock is set by %i ms', async (byMs) => {
  vi.useFakeTimers({ toFake: ['Date', 'setInterval', 'clearInterval'] });
  onTestFinished(() => void vi.useRealTimers());
  const [node, peer] = await Promise.all([startRaw(), startRaw()]);
  const connection = await node.dial(peer.getMultiaddrs(), { signal: soon() });
  for (const step of [0, 0, byMs, 0, 0]) {
    vi.setSystemTime(Date.now() + step);
    delete connection.rtt;
    vi.advanceTimersByTime(PING_INTERVAL_MS);
    await eventually(() => connection.rtt !== undefined || connection.status !== 'open');
    expect(connection.status).toBe('open');
  }
});
