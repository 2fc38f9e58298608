import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, Registry } from '@prometheus-io/client';

/** Sampling period of the event-loop delay. Gossip suffers from delays of 50 ms and more. */
const LOOP_SAMPLE_MS = 20;
const NANOSECONDS = 1e9;

export interface ProcessSource {
  version: string;
  /** Returns the bytes sent and received over all connections since the start; absent without connections to peers. */
  traffic?(): { sent: number; received: number };
}

/**
 * Creates a registry with the process metrics that both daemons and the server of models have. It does not use the
 * client library's global registry, so that two daemons can run in one process. `stop` ends the sampling of the event
 * loop.
 */
export function processRegistry(source: ProcessSource): { registry: Registry; stop(): void } {
  const registry = new Registry();
  const registers = [registry];
  const loop = monitorEventLoopDelay({ resolution: LOOP_SAMPLE_MS });
  loop.enable();

  new Gauge({
    name: 'swarm_build_info',
    help: 'Always 1. The labels contain the versions of lora-swarm and Node.js.',
    labelNames: ['version', 'node'] as const,
    registers,
  }).set({ version: source.version, node: process.version }, 1);

  new Gauge({
    name: 'swarm_event_loop_lag_seconds',
    help: 'Delay of the event loop since the last scrape: median, 99th percentile and maximum.',
    // Prometheus reserves the label `quantile` for summaries.
    labelNames: ['statistic'] as const,
    registers,
    collect() {
      // The histogram holds the times between two runs of the sampling timer. The part of such a time above the
      // sampling period is the lag.
      const lag = (ns: number) =>
        Number.isFinite(ns) ? Math.max(0, ns / NANOSECONDS - LOOP_SAMPLE_MS / 1000) : 0;
      this.set({ statistic: 'median' }, lag(loop.percentile(50)));
      this.set({ statistic: 'p99' }, lag(loop.percentile(99)));
      this.set({ statistic: 'max' }, lag(loop.max));
      loop.reset();
    },
  });

  new Gauge({
    name: 'swarm_process_resident_memory_bytes',
    help: 'Resident memory of the daemon, without its trainer process.',
    registers,
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });

  fromTotal(registry, {
    name: 'swarm_process_cpu_seconds_total',
    help: 'Processor time of the daemon, without its trainer process.',
    labelNames: ['mode'],
    totals: () => {
      const { user, system } = process.cpuUsage();
      return [
        { labels: { mode: 'user' }, total: user / 1e6 },
        { labels: { mode: 'system' }, total: system / 1e6 },
      ];
    },
  });

  const traffic = source.traffic?.bind(source);
  if (traffic !== undefined) {
    fromTotal(registry, {
      name: 'swarm_network_bytes_total',
      help: 'Bytes over all peer connections.',
      labelNames: ['direction'],
      totals: () => {
        const { sent, received } = traffic();
        return [
          { labels: { direction: 'sent' }, total: sent },
          { labels: { direction: 'received' }, total: received },
        ];
      },
    });
  }

  return { registry, stop: () => loop.disable() };
}

/** Registers a counter for totals that are counted elsewhere. Each scrape adds their growth since the last scrape. */
export function fromTotal(
  registry: Registry,
  options: {
    name: string;
    help: string;
    labelNames: readonly string[];
    totals(): { labels: Record<string, string>; total: number }[];
  },
): void {
  const last = new Map<string, number>();
  new Counter({
    name: options.name,
    help: options.help,
    labelNames: options.labelNames,
    registers: [registry],
    collect() {
      for (const { labels, total } of options.totals()) {
        const key = JSON.stringify(labels);
        const before = last.get(key) ?? 0;
        last.set(key, total);
        // A total that is smaller than before was reset at its source. A Prometheus counter must not decrease, so add
        // nothing.
        this.inc(labels, Math.max(0, total - before));
      }
    },
  });
}
