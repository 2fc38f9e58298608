import { Counter, Gauge, Histogram, type Registry } from '@prometheus-io/client';
import { processRegistry } from './process-metrics.ts';

/**
 * Bucket bounds of request times, in seconds. The shortest requests have a cached prompt and a small model,
 * and the longest have a long answer of a large model.
 */
const SECONDS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 300];
/**
 * Paths that the metrics count separately. All other paths are counted as `other`, because a client can send any
 * path.
 */
const PATHS = [
  '/v1/completions',
  '/v1/chat/completions',
  '/v1/models',
  '/tokenize',
  '/detokenize',
  '/health',
];

/** The values that a scrape reads from a server. */
export interface ServeGauges {
  /** Number of sequences that are being computed, and number of sequences that wait. */
  readonly running: number;
  readonly waiting: number;
  /** Bytes of the caches of running sequences, and of the prefix cache. */
  readonly cacheBytes: number;
  readonly prefixBytes: number;
  /** Ids of the adapters in memory. */
  readonly adapters: readonly string[];
}

export interface ServeMetrics {
  readonly registry: Registry;
  /** Counts a request that has ended. Times are in milliseconds. */
  requestServed(request: {
    path: string;
    status: number;
    promptTokens: number;
    cachedTokens: number;
    completionTokens: number;
    firstTokenMs: number | null;
    ms: number;
  }): void;
  stop(): void;
}

/**
 * Creates the metrics of a server of models. All labels have a fixed set of values. docs/metrics.md lists the metrics.
 */
export function createServeMetrics(source: {
  version: string;
  /** Returns null if the process that computes the model has ended. */
  gauges(): Promise<ServeGauges | null>;
}): ServeMetrics {
  const { registry, stop } = processRegistry(source);
  const registers = [registry];
  const requests = new Counter({
    name: 'swarm_serve_requests_total',
    help: 'Requests that have ended, by path and HTTP status. Status 499 means that the client disconnected.',
    labelNames: ['path', 'status'] as const,
    registers,
  });
  const seconds = new Histogram({
    name: 'swarm_serve_request_seconds',
    help: 'Time from a request to the end of its answer, seconds.',
    labelNames: ['path'] as const,
    buckets: SECONDS,
    registers,
  });
  const firstToken = new Histogram({
    name: 'swarm_serve_first_token_seconds',
    help: 'Time from a request to its first generated text, seconds.',
    buckets: SECONDS,
    registers,
  });
  const tokens = new Counter({
    name: 'swarm_serve_tokens_total',
    help: 'Tokens, by kind: tokens of prompts, prompt tokens that came from the prefix cache, or generated tokens.',
    labelNames: ['kind'] as const,
    registers,
  });
  new Gauge({
    name: 'swarm_serve_sequences',
    help: 'Sequences, by state: being computed, or waiting.',
    labelNames: ['state'] as const,
    registers,
    async collect() {
      const gauges = await source.gauges();
      if (gauges === null) return;
      this.set({ state: 'running' }, gauges.running);
      this.set({ state: 'waiting' }, gauges.waiting);
    },
  });
  new Gauge({
    name: 'swarm_serve_cache_bytes',
    help: 'Memory of the key-value caches of running sequences, and of the prefix cache.',
    labelNames: ['kind'] as const,
    registers,
    async collect() {
      const gauges = await source.gauges();
      if (gauges === null) return;
      this.set({ kind: 'running' }, gauges.cacheBytes);
      this.set({ kind: 'prefix' }, gauges.prefixBytes);
    },
  });
  new Gauge({
    name: 'swarm_serve_adapters',
    help: 'Adapters in memory.',
    registers,
    async collect() {
      const gauges = await source.gauges();
      if (gauges !== null) this.set(gauges.adapters.length);
    },
  });
  return {
    registry,
    stop,
    requestServed({ path, status, promptTokens, cachedTokens, completionTokens, firstTokenMs, ms }) {
      const known = PATHS.includes(path) ? path : 'other';
      requests.inc({ path: known, status: String(status) });
      seconds.observe({ path: known }, ms / 1000);
      if (firstTokenMs !== null) firstToken.observe(firstTokenMs / 1000);
      tokens.inc({ kind: 'prompt' }, promptTokens);
      tokens.inc({ kind: 'cached' }, cachedTokens);
      tokens.inc({ kind: 'completion' }, completionTokens);
    },
  };
}
