import { Counter, Gauge, Histogram, type Metric, type Registry } from '@prometheus-io/client';
import { jobChannels } from '../../protocol/job/topics.ts';
import { rpcMethods } from '../../protocol/requests/rpc.ts';

/** Bucket bounds in seconds, from a call on loopback to the timeouts of a call (10 s) and of a range (64 s). */
const SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 64];
/** Bucket bounds in seconds for the fetch of a whole blob. A base model can take an hour. */
const FETCH_SECONDS = [0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 3600];

const METHODS: readonly string[] = Object.keys(rpcMethods);
const CHANNELS: readonly string[] = jobChannels;

/**
 * Error codes that appear as label values. All other codes become "other", because remote peers can send any
 * code in a refusal.
 */
const CODES: readonly string[] = [
  'ok',
  'aborted',
  'BANNED',
  'BLOB_BUSY',
  'BLOB_CORRUPT',
  'BLOB_MISSING',
  'BLOB_SIZE',
  'BLOB_UNAVAILABLE',
  'BUSY',
  'CLOCK_OFF',
  'DEADLINE_EXCEEDED',
  'DUPLICATE_IDENTITY',
  'FRAME_FLOOD',
  'FRAME_TOO_LARGE',
  'FRAME_TRUNCATED',
  'HOST_STOPPED',
  'IDENTITY_IN_USE',
  'INTERNAL',
  'INVITE_EXPIRED',
  'INVITE_REVOKED',
  'INVITE_USED',
  'JOB_FULL',
  'JOB_UNKNOWN',
  'MESSAGE_INVALID',
  'MESSAGE_MALFORMED',
  'MESSAGE_TOO_LARGE',
  'NOT_ADMITTED',
  'RPC_BUSY',
  'RPC_METHOD_UNKNOWN',
  'RPC_RATE_LIMITED',
  'RPC_TIMEOUT',
  'RPC_UNREACHABLE',
  'SIGNATURE_INVALID',
  'STORE_FULL',
  'STREAM_CLOSED',
  'WRITE_FAILED',
];

type Direction = 'inbound' | 'outbound';

/**
 * Metrics of rpc, gossip and blobs. The class has the methods of `NetworkMeter` in net/meter.ts, which this
 * folder may not import. The host needs its meter before the daemon has a metrics registry. The metrics are
 * therefore created first, and registered later.
 */
export class NetworkMetrics {
  readonly #metrics: Metric[] = [];

  readonly #rpcRequests = this.#counter(
    'swarm_rpc_requests_total',
    'Calls, by method, direction and code ("ok" or an error code).',
    ['method', 'direction', 'code'],
  );
  readonly #rpcDuration = this.#histogram(
    'swarm_rpc_duration_seconds',
    'Duration of calls, from the request to the answer.',
    ['method', 'direction'],
    SECONDS,
  );
  readonly #rpcBytes = this.#counter(
    'swarm_rpc_bytes_total',
    'Payload bytes of calls. The label direction says who made the call, and flow where the bytes went.',
    ['method', 'direction', 'flow'],
  );
  readonly #rpcQueue = this.#gauge('swarm_rpc_inbound_in_progress', 'Calls of other peers in progress.');

  readonly #gossipMessages = this.#counter(
    'swarm_gossip_messages_total',
    'Gossip messages, by channel, direction and verdict.',
    ['channel', 'direction', 'verdict'],
  );
  readonly #gossipDropped = this.#counter(
    'swarm_gossip_dropped_total',
    'Gossip messages dropped before their signatures were verified, by reason.',
    ['reason'],
  );
  readonly #gossipDuration = this.#histogram(
    'swarm_gossip_duration_seconds',
    'Time until an inbound message had a verdict, or until an outbound message was passed to the streams.',
    ['channel', 'direction'],
    SECONDS,
  );
  readonly #gossipBytes = this.#counter(
    'swarm_gossip_bytes_total',
    'Bytes of gossip messages. A published message counts once, even if several peers receive it.',
    ['channel', 'direction'],
  );
  readonly #gossipQueue = this.#gauge('swarm_gossip_pending', 'Gossip messages that wait for a verdict.');

  readonly #blobRanges = this.#counter(
    'swarm_blob_ranges_total',
    'Ranges fetched (inbound) and served (outbound), by code.',
    ['direction', 'code'],
  );
  readonly #blobRangeDuration = this.#histogram(
    'swarm_blob_range_duration_seconds',
    'Duration of the transfer of a range.',
    ['direction'],
    SECONDS,
  );
  readonly #blobBytes = this.#counter('swarm_blob_bytes_total', 'Bytes of whole ranges transferred.', [
    'direction',
  ]);
  readonly #blobQueue = this.#gauge('swarm_blob_outbound_in_progress', 'Ranges being served.');
  readonly #blobFetches = this.#counter('swarm_blob_fetches_total', 'Fetches of whole blobs, by code.', [
    'code',
  ]);
  readonly #blobFetchDuration = this.#histogram(
    'swarm_blob_fetch_duration_seconds',
    'Duration of the fetch of a whole blob.',
    [],
    FETCH_SECONDS,
  );

  readonly #refusals = this.#counter(
    'swarm_network_refusals_total',
    'Peers that were refused a place in a queue or lost it, by queue and reason.',
    ['queue', 'reason'],
  );

  /** Adds the metrics to the registry of a daemon. */
  register(registry: Registry): void {
    for (const metric of this.#metrics) registry.registerMetric(metric);
  }

  rpcCall(call: {
    method: string;
    direction: Direction;
    code: string;
    seconds: number;
    sent: number;
    received: number;
  }): void {
    const { direction } = call;
    const method = bounded(call.method, METHODS);
    this.#rpcRequests.inc({ method, direction, code: bounded(call.code, CODES) });
    this.#rpcDuration.observe({ method, direction }, call.seconds);
    this.#rpcBytes.inc({ method, direction, flow: 'sent' }, call.sent);
    this.#rpcBytes.inc({ method, direction, flow: 'received' }, call.received);
  }

  rpcQueue(inProgress: number): void {
    this.#rpcQueue.set(inProgress);
  }

  gossipDropped(reason: string, count: number): void {
    this.#gossipDropped.inc({ reason }, count);
  }

  gossipMessage(message: {
    channel: string;
    direction: Direction;
    verdict: string;
    bytes: number;
    seconds: number;
  }): void {
    const { direction, verdict } = message;
    const channel = bounded(message.channel, CHANNELS);
    this.#gossipMessages.inc({ channel, direction, verdict });
    this.#gossipDuration.observe({ channel, direction }, message.seconds);
    this.#gossipBytes.inc({ channel, direction }, message.bytes);
  }

  gossipQueue(pending: number): void {
    this.#gossipQueue.set(pending);
  }

  blobRange(range: { direction: Direction; code: string; bytes: number; seconds: number }): void {
    const { direction } = range;
    this.#blobRanges.inc({ direction, code: bounded(range.code, CODES) });
    this.#blobRangeDuration.observe({ direction }, range.seconds);
    this.#blobBytes.inc({ direction }, range.bytes);
  }

  blobQueue(ranges: number): void {
    this.#blobQueue.set(ranges);
  }

  blobFetch({ code, seconds }: { code: string; seconds: number }): void {
    this.#blobFetches.inc({ code: bounded(code, CODES) });
    this.#blobFetchDuration.observe(seconds);
  }

  refusal({ queue, reason }: { queue: string; reason: string }): void {
    this.#refusals.inc({ queue, reason });
  }

  #counter<Label extends string>(name: string, help: string, labelNames: readonly Label[]): Counter<Label> {
    const counter = new Counter({ name, help, labelNames, registers: [] });
    this.#metrics.push(counter as Metric);
    return counter;
  }

  #gauge(name: string, help: string): Gauge {
    const gauge = new Gauge({ name, help, registers: [] });
    this.#metrics.push(gauge);
    return gauge;
  }

  #histogram<Label extends string>(
    name: string,
    help: string,
    labelNames: readonly Label[],
    buckets: number[],
  ): Histogram<Label> {
    const histogram = new Histogram({ name, help, labelNames, buckets, registers: [] });
    this.#metrics.push(histogram as Metric);
    return histogram;
  }
}

/** Returns a label value from a fixed set: the value itself, or "other". */
function bounded(value: string, known: readonly string[]): string {
  return known.includes(value) ? value : 'other';
}
