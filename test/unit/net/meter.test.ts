import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { SwarmError } from '../../../common/errors.ts';
import { NetworkMetrics } from '../../../monitor/metrics/network-metrics.ts';
import type { BlobRange, GossipRecord, NetworkMeter, Refusal, RpcCall } from '../../../net/meter.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import { jobTopic } from '../../../protocol/job/topics.ts';
import { eventually } from '../../utils/eventually.ts';
import { join, soon, startHost } from '../../utils/swarm/hosts.ts';
import { testKeys } from '../../utils/swarm/job-keys.ts';

const job = 'ab'.repeat(32);

/** A meter that records everything. */
function recorder() {
  const calls: RpcCall[] = [];
  const messages: GossipRecord[] = [];
  const ranges: BlobRange[] = [];
  const fetches: { code: string; seconds: number }[] = [];
  const queues: number[] = [];
  const refusals: Refusal[] = [];
  const meter: NetworkMeter = {
    rpcCall: (call) => calls.push(call),
    rpcQueue: (inProgress) => queues.push(inProgress),
    gossipMessage: (message) => messages.push(message),
    gossipDropped: () => {},
    gossipQueue: () => {},
    blobRange: (range) => ranges.push(range),
    blobQueue: () => {},
    blobFetch: (fetch) => fetches.push(fetch),
    refusal: (refusal) => refusals.push(refusal),
  };
  return { calls, messages, ranges, fetches, queues, refusals, meter };
}

async function pair() {
  const [left, right] = [recorder(), recorder()];
  const a = await startHost({ meter: left.meter });
  const b = await startHost({ meter: right.meter });
  await join(a, b);
  return { a, b, left, right };
}

it('sees both sides of a call, with its code and bytes', async () => {
  const { a, b, left, right } = await pair();
  b.network.handle('head', async () => ({ head: new Uint8Array(100), keys: testKeys() }));
  b.network.handle('leave', () => Promise.reject(new SwarmError('JOB_UNKNOWN', 'unknown job')));
  await a.network.request(b.peer, 'head', { job }, { signal: soon() });
  const refused = a.network.request(b.peer, 'leave', { job, reason: '' }, { signal: soon() });
  await expect(refused).rejects.toMatchObject({ code: 'RPC_REFUSED' });
  expect(left.calls).toMatchObject([
    { method: 'head', direction: 'outbound', code: 'ok' },
    { method: 'leave', direction: 'outbound', code: 'JOB_UNKNOWN' },
  ]);
  await eventually(() => right.calls.length === 2);
  expect(right.calls).toMatchObject([
    { method: 'head', direction: 'inbound', code: 'ok' },
    { method: 'leave', direction: 'inbound', code: 'JOB_UNKNOWN' },
  ]);
  const [out, into] = [left.calls[0]!, right.calls[0]!];
  expect([out.sent, out.received]).toEqual([into.received, into.sent]);
  expect(out.received).toBeGreaterThan(100);
  expect(out.seconds).toBeGreaterThan(0);
  expect(right.queues).toEqual([1, 0, 1, 0]);
});

it('sees published and judged messages', async () => {
  const { a, b, left, right } = await pair();
  const topic = jobTopic(job, 'peers');
  b.network.subscribe(topic, () => 'ignore');
  await eventually(async () => {
    await a.network.publish(topic, randomBytes(50));
    return right.messages.length > 0;
  });
  expect(left.messages[0]).toMatchObject({
    channel: 'peers',
    direction: 'outbound',
    verdict: 'published',
    bytes: 50,
  });
  expect(right.messages[0]).toMatchObject({
    channel: 'peers',
    direction: 'inbound',
    verdict: 'ignore',
    bytes: 50,
  });
});

it('sees ranges on both sides, and the fetch of the blob', async () => {
  const { a, b, left, right } = await pair();
  const bytes = randomBytes(1000);
  await b.blobs.put(bytes);
  const ref = { digest: sha256(bytes), size: bytes.length };
  await a.network.fetchBlob(ref, { holders: [b.peer], signal: soon() });
  expect(left.ranges).toMatchObject([{ direction: 'inbound', code: 'ok', bytes: 1000 }]);
  expect(left.fetches).toMatchObject([{ code: 'ok' }]);
  await eventually(() => right.ranges.length === 1);
  expect(right.ranges).toMatchObject([{ direction: 'outbound', code: 'ok', bytes: 1000 }]);

  const missing = { digest: job, size: 10 };
  await expect(a.network.fetchBlob(missing, { holders: [b.peer], signal: soon() })).rejects.toMatchObject({
    code: 'BLOB_UNAVAILABLE',
  });
  expect(left.ranges.at(-1)).toMatchObject({ direction: 'inbound', code: 'BLOB_MISSING', bytes: 0 });
  expect(left.fetches.at(-1)).toMatchObject({ code: 'BLOB_UNAVAILABLE' });
});

it('is implemented by the network metrics', () => {
  const meter: NetworkMeter = new NetworkMetrics();
  expect(meter).toBeInstanceOf(NetworkMetrics);
});
