import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Registry } from '@prometheus-io/client';
import { beforeAll, expect, it, onTestFinished } from 'vitest';
import { createCoordinatorMetrics } from '../../../../monitor/metrics/coordinator-metrics.ts';
import { NetworkMetrics } from '../../../../monitor/metrics/network-metrics.ts';
import { createNodeMetrics } from '../../../../monitor/metrics/node-metrics.ts';
import { createServeMetrics } from '../../../../monitor/metrics/serve-metrics.ts';

const PAGE = join(import.meta.dirname, '../../../../docs/metrics.md');

interface Entry {
  name: string;
  type: string;
  labels: string[];
}

const sections = new Map<string, Entry[]>();
beforeAll(async () => {
  let section: Entry[] = [];
  for (const line of (await readFile(PAGE, 'utf8')).split('\n')) {
    if (line.startsWith('## ')) {
      section = [];
      sections.set(line.slice(3), section);
    }
    const [, name, type, labels] = /^\| `(\w+)` \| (\w+) \|([^|]*)\| \S/.exec(line) ?? [];
    if (name) {
      section.push({
        name,
        type: type!,
        labels: [...labels!.matchAll(/`(\w+)`/g)].map(([, label]) => label!),
      });
    }
  }
});

function registered(registry: Registry): Entry[] {
  const metrics = registry.getMetricsAsArray() as unknown as (Entry & { labelNames: string[] })[];
  return metrics.map(({ name, type, labelNames }) => ({ name, type, labels: labelNames })).sort(byName);
}

function byName(a: Entry, b: Entry): number {
  return a.name < b.name ? -1 : 1;
}

const source = { version: '0.1.0', traffic: () => ({ sent: 0, received: 0 }), connections: () => 0 };
const node = () => ({
  state: 'joining',
  round: 0,
  step: 0,
  steps: 0,
  tokensPerSecond: 0,
  trainerQueue: 0,
  jobs: [],
});

it.each([
  ['Node', () => createNodeMetrics({ ...source, node })],
  ['Coordinator', () => createCoordinatorMetrics({ ...source, jobs: () => [], intakeQueues: () => [] })],
] as const)('docs/metrics.md lists exactly the metrics of a daemon: %s', (section, create) => {
  const { registry, stop } = create();
  onTestFinished(stop);
  const page = [...sections.get('Both daemons')!, ...sections.get(section)!].sort(byName);
  expect(page).toEqual(registered(registry));
});

it('docs/metrics.md lists exactly the metrics of the network', () => {
  const registry = new Registry();
  new NetworkMetrics().register(registry);
  expect(sections.get('Network of both daemons')!.toSorted(byName)).toEqual(registered(registry));
});

it('docs/metrics.md lists exactly the metrics of a server of models', () => {
  const { registry, stop } = createServeMetrics({ version: '0.1.0', gauges: async () => null });
  onTestFinished(stop);
  const daemons = new Set(sections.get('Both daemons')!.map(({ name }) => name));
  const own = registered(registry).filter(({ name }) => !daemons.has(name));
  expect(sections.get('Server of models')!.toSorted(byName)).toEqual(own);
});

it('only the names of counters end in _total', () => {
  const entries = [...sections.values()].flat();
  expect(entries.filter(({ name, type }) => name.endsWith('_total') !== (type === 'counter'))).toEqual([]);
});

it('times and sizes are in base units, and no label is reserved for histograms and summaries', () => {
  const entries = [...sections.values()].flat();
  const units = /(milli|micro|nano)seconds|minutes|hours|(kilo|mega|giga)bytes|kib|mib|_ms\b/;
  const reserved = (label: string): boolean => ['le', 'quantile'].includes(label) || label.startsWith('__');
  expect(entries.filter(({ name, labels }) => units.test(name) || labels.some(reserved))).toEqual([]);
  const times = entries.filter(({ type }) => type === 'histogram');
  expect(times.filter(({ name }) => !name.endsWith('_seconds'))).toEqual([]);
});
