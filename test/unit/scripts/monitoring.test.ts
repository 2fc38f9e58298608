import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ALERTS } from '../../../scripts/monitoring/alerts.ts';
import { coordinatorDashboard, nodeDashboard } from '../../../scripts/monitoring/dashboards.ts';
import { monitoringFiles } from '../../../scripts/monitoring.ts';

const DOCS = join(import.meta.dirname, '../../../docs');
/** Labels that Prometheus itself adds. */
const ADDED = ['instance', 'job', 'le'];

/**
 * Returns the labels of each metric, from docs/metrics.md. Another test compares that page with the metrics themselves.
 */
function metrics(): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  for (const [, name, kind, labels] of readFileSync(join(DOCS, 'metrics.md'), 'utf8').matchAll(
    /^\| `(\w+)` \| (\w+) \|([^|]*)\|/gm,
  )) {
    const names = [...labels!.matchAll(/`(\w+)`/g)].map(([, label]) => label!);
    const full = kind === 'histogram' ? `${name}_bucket` : name!;
    found.set(full, new Set([...(found.get(full) ?? []), ...names, ...ADDED]));
  }
  return found;
}

/** All expressions, each with the labels that its legend or its texts name. */
function expressions(): { expr: string; named: string[] }[] {
  const labelsIn = (text: string): string[] =>
    [...text.matchAll(/\{\{ ?(?:\$labels\.)?(\w+) ?\}\}/g)].map(([, label]) => label!);
  const panels = [coordinatorDashboard, nodeDashboard].flatMap((dashboard) =>
    dashboard.panels.flatMap((panel) =>
      panel.queries.map(({ expr, legend }) => ({ expr, named: labelsIn(legend) })),
    ),
  );
  const alerts = ALERTS.map(({ expr, annotations }) => ({
    expr,
    named: labelsIn(`${annotations.summary} ${annotations.description}`),
  }));
  return [...panels, ...alerts];
}

it('the files of docs/monitoring are those that the script writes', () => {
  for (const [path, text] of Object.entries(monitoringFiles())) {
    expect(readFileSync(join(DOCS, 'monitoring', path), 'utf8'), path).toBe(text);
  }
});

it('docs/monitoring.md names each alert of the rules file, and no others', () => {
  const rules = readFileSync(join(DOCS, 'monitoring', 'alerts.yml'), 'utf8');
  const named = (text: string, pattern: RegExp): string[] =>
    [...text.matchAll(pattern)].map(([, name]) => name!);
  const page = readFileSync(join(DOCS, 'monitoring.md'), 'utf8');
  const alerts = named(rules, /- alert: (\w+)/g);
  expect(alerts).toHaveLength(ALERTS.length);
  expect(named(page, /^\| `(Swarm\w+)` \|/gm)).toEqual(alerts);
});

it('an alert about rounds without a checkpoint counts null rounds, and no roll-backs, which make checkpoints', () => {
  const { expr } = ALERTS.find(({ alert }) => alert === 'SwarmRoundsWithoutCheckpoint')!;
  expect(expr).toContain('swarm_rounds_total{outcome="null"}');
});

it('every metric and label of dashboards and alerts exists', () => {
  const known = metrics();
  for (const { expr, named } of expressions()) {
    const used = [...expr.matchAll(/\bswarm_\w+/g)].map(([name]) => name);
    for (const name of used) expect(known.has(name), `${name} in ${expr}`).toBe(true);
    const labels = new Set(used.flatMap((name) => [...known.get(name)!]));
    if (used.length === 0) continue;
    const inSelectors = [...expr.matchAll(/\{([^}]*)\}/g)].flatMap(([, selector]) =>
      [...selector!.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label]) => label!),
    );
    const grouped = [...expr.matchAll(/\b(?:by|on)\s*\(([^)]*)\)/g)].flatMap(([, list]) =>
      list!.split(/,\s*/),
    );
    for (const label of [...inSelectors, ...grouped, ...named]) {
      expect(labels.has(label), `label ${label} of ${expr}`).toBe(true);
    }
    // A legend can show only labels that an aggregation keeps.
    const kept = /^\w*\(?.*sum by \(([^)]*)\)/.exec(expr)?.[1]?.split(/,\s*/);
    if (kept) for (const label of named) expect(kept, `legend of ${expr}`).toContain(label);
  }
});

it('every panel of a dashboard has its own place', () => {
  const { panels } = JSON.parse(monitoringFiles()['grafana/coordinator.json']!) as {
    panels: { gridPos: { x: number; y: number } }[];
  };
  expect(new Set(panels.map(({ gridPos: { x, y } }) => `${x} ${y}`)).size).toBe(panels.length);
});

it('the share of the planned rounds counts checkpoints, not the round in progress', () => {
  const shares = expressions().filter(({ expr }) => expr.includes('/ swarm_rounds{'));
  expect(shares.map(({ expr }) => expr)).toEqual([
    'swarm_rounds_done{job=~"$job"} / swarm_rounds{job=~"$job"}',
  ]);
});
