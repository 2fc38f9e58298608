import { expect, it } from 'vitest';
import { FairPermits } from '../../../../common/fair-permits.ts';
import { shareStreams } from '../../../../net/libp2p/inbound-streams.ts';
import { eventually } from '../../../utils/eventually.ts';
import { startRaw } from '../../../utils/hosts.ts';

it('shares the inbound streams of all connections between peers, and releases those that end', async () => {
  const target = await startRaw();
  const refusals: string[] = [];
  const permits = new FairPermits(
    { total: 16, reserved: 0, withdraws: 'newest' },
    { knows: () => false, onRefusal: (reason) => refusals.push(reason) },
  );
  await target.handle('/test/1', () => {}, { maxInboundStreams: 100 });
  shareStreams(target, permits);
  const [greedy, modest] = await Promise.all([startRaw(), startRaw()]);
  const open = (from: typeof greedy) =>
    from.dialProtocol(target.getMultiaddrs()[0]!, '/test/1', { maxOutboundStreams: 100 });
  await eventually(async () => {
    await open(greedy).catch(() => {});
    return refusals.includes('full');
  });
  const stream = await open(modest);
  await eventually(() => refusals.includes('withdrawn'));
  expect(stream.status).toBe('open');
  expect(permits.size).toBeLessThanOrEqual(16);
  await Promise.all([greedy.stop(), modest.stop()]);
  await eventually(() => permits.size === 0);
});
