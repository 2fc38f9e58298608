import { Registry } from '@prometheus-io/client';
import { expect, it } from 'vitest';
import { NetworkMetrics } from '../../../../monitor/metrics/network-metrics.ts';

function setUp() {
  const registry = new Registry();
  const metrics = new NetworkMetrics();
  metrics.register(registry);
  const samples = async (name: string) =>
    (await registry.metrics()).split('\n').filter((line) => line.startsWith(name));
  return { metrics, samples };
}

const call = {
  method: 'head',
  direction: 'outbound',
  code: 'ok',
  seconds: 0.02,
  sent: 10,
  received: 30,
} as const;

it('counts calls, their time and their bytes', async () => {
  const { metrics, samples } = setUp();
  metrics.rpcCall(call);
  metrics.rpcCall({ ...call, code: 'RPC_TIMEOUT', seconds: 10, received: 0 });
  metrics.rpcQueue(3);
  expect(await samples('swarm_rpc_requests_total')).toEqual([
    'swarm_rpc_requests_total{method="head",direction="outbound",code="ok"} 1',
    'swarm_rpc_requests_total{method="head",direction="outbound",code="RPC_TIMEOUT"} 1',
  ]);
  expect(await samples('swarm_rpc_bytes_total')).toEqual([
    'swarm_rpc_bytes_total{method="head",direction="outbound",flow="sent"} 20',
    'swarm_rpc_bytes_total{method="head",direction="outbound",flow="received"} 30',
  ]);
  expect(await samples('swarm_rpc_duration_seconds_sum')).toEqual([
    'swarm_rpc_duration_seconds_sum{method="head",direction="outbound"} 10.02',
  ]);
  expect(await samples('swarm_rpc_inbound_in_progress')).toEqual(['swarm_rpc_inbound_in_progress 3']);
});

it('bounds labels that remote peers choose', async () => {
  const { metrics, samples } = setUp();
  for (let i = 0; i < 100; i++) {
    metrics.rpcCall({ ...call, direction: 'inbound', method: `method-${i}`, code: `CODE_${i}` });
    metrics.blobFetch({ code: `CODE_${i}`, seconds: 1 });
    metrics.gossipMessage({
      channel: `channel-${i}`,
      direction: 'inbound',
      verdict: 'ignore',
      bytes: 1,
      seconds: 0,
    });
  }
  expect(await samples('swarm_rpc_requests_total')).toEqual([
    'swarm_rpc_requests_total{method="other",direction="inbound",code="other"} 100',
  ]);
  expect(await samples('swarm_blob_fetches_total')).toEqual(['swarm_blob_fetches_total{code="other"} 100']);
  expect(await samples('swarm_gossip_messages_total')).toHaveLength(1);
});

it('counts ranges by direction and code', async () => {
  const { metrics, samples } = setUp();
  metrics.blobRange({ direction: 'inbound', code: 'ok', bytes: 1000, seconds: 0.1 });
  metrics.blobRange({ direction: 'outbound', code: 'BLOB_BUSY', bytes: 0, seconds: 0.001 });
  expect(await samples('swarm_blob_ranges_total')).toEqual([
    'swarm_blob_ranges_total{direction="inbound",code="ok"} 1',
    'swarm_blob_ranges_total{direction="outbound",code="BLOB_BUSY"} 1',
  ]);
  expect(await samples('swarm_blob_bytes_total{direction="inbound"}')).toEqual([
    'swarm_blob_bytes_total{direction="inbound"} 1000',
  ]);
});
