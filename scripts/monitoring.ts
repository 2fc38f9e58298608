/** Writes the files of docs/monitoring: Grafana dashboards, and alert rules for Prometheus. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { ALERTS } from './monitoring/alerts.ts';
import { dashboardJson } from './monitoring/dashboard.ts';
import { coordinatorDashboard, nodeDashboard } from './monitoring/dashboards.ts';

const NOTE =
  '# Made by scripts/monitoring.ts. To change it, edit scripts/monitoring/ and run the script again.\n';

/** Returns the text of each file by its path below docs/monitoring. */
export function monitoringFiles(): Record<string, string> {
  const json = (value: object): string => `${JSON.stringify(value, null, 2)}\n`;
  return {
    'grafana/coordinator.json': json(dashboardJson(coordinatorDashboard)),
    'grafana/nodes.json': json(dashboardJson(nodeDashboard)),
    'alerts.yml': NOTE + stringify({ groups: [{ name: 'lora-swarm', rules: ALERTS }] }, { lineWidth: 0 }),
  };
}

if (import.meta.main) {
  const folder = join(import.meta.dirname, '../docs/monitoring');
  mkdirSync(join(folder, 'grafana'), { recursive: true });
  for (const [path, text] of Object.entries(monitoringFiles())) writeFileSync(join(folder, path), text);
}
